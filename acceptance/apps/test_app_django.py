"""A Django project as django-admin makes it, under uvicorn: restarted, and beside the code that serves."""

from pathlib import Path

import pytest

from acceptance.apps.app import App, running_app
from acceptance.apps.fivepushes import Broken, Change, Five, Good, push_five

SETTINGS, URLS = "mysite/settings.py", "mysite/urls.py"
ROUTES = "urlpatterns = [\n"
VIEW = """\
from django.http import HttpResponse


def front(request):
    return HttpResponse("first front page")


urlpatterns = [
    path('', front),
"""
FIVE = Five(
    image="The install worked successfully!",
    good=Good(Change(URLS, ROUTES, VIEW), "first front page"),
    raises=Broken(
        Change(SETTINGS, "from pathlib import Path\n", "from pathlib import Path\nimport django_ng\n"),
        says="ModuleNotFoundError: No module named 'django_ng'",
        exit_code=1,
    ),
    unhealthy=Broken(
        Change(URLS, 'return HttpResponse("first front page")', 'raise RuntimeError("no front page today")'),
        says="RuntimeError: no front page today",
        heard="HTTP status 500",
    ),
    hangs=Broken(
        Change(
            SETTINGS,
            "from pathlib import Path\n",
            "from pathlib import Path\nimport time\ntime.sleep(3600)\n",
        ),
        heard="Connection refused",
    ),
    repaired=Good(Change(URLS, "first front page", "second front page"), "second front page"),
)


@pytest.mark.parametrize("reload", ["restart", "blue-green"])
def test_a_django_project_under_uvicorn(
    reload: str, python: Path, django_image: Path, tmp_path: Path
) -> None:
    uvicorn = (str(python), "-m", "uvicorn", "--port", "{port}", "mysite.asgi:application")
    with running_app(tmp_path, django_image, App(uvicorn, health="/"), reload) as chain:
        push_five(chain, FIVE)
