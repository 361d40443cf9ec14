"""Source distributions of Flask, downloaded once into .cache/sdists of this checkout and checked against the digests here.

.venv/bin/python -m acceptance.histories.sdists      downloads them; nothing to do the second time
"""

import hashlib
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

RELEASES = {  # SHA-256 by version, oldest first
    "1.1.1": "13f9f196f330c7c2c5d7a5cf91af894110ca0215ac051b5844701f2bfd934d52",
    "1.1.2": "4efa1ae2d7c9865af48986de8aeb8504bf32c7f3d6fdc9353d34b21f4b127060",
    "1.1.3": "56513a61e2b953dce9c0a1680886a72e169afe13fe6341ac2cdab82426ea1586",
    "1.1.4": "0fbeb6180d383a9186d0d6ed954e0042ad9f18e0e8de088b2b419d526927d196",
    "2.0.0": "168e8507792cb8a3aa06afbe5d4d431d3e07c6318bc3893ceecb81aff09f848d",
    "2.0.1": "1c4c257b1892aec1398784c63791cbaa43062f1f7aeb555c4da961b20ee68f55",
    "2.0.2": "7b2fb8e934ddd50731893bdcdb00fc8c0315916f9fcd50d22c7cc1a95ab634e2",
    "2.0.3": "e1120c228ca2f553b470df4a5fa927ab66258467526069981b3eb0a91902687d",
    "2.1.0": "c4dd4a3d8fcae9f892e3f61edfbb1d3cdf9ac03dc72ea1bf8d5c6c964a669674",
    "2.1.1": "a8c9bd3e558ec99646d177a9739c41df1ded0629480b4c8d2975412f3c9519c8",
    "2.1.2": "315ded2ddf8a6281567edb27393010fe3406188bafbfe65a3339d5787d89e477",
    "2.1.3": "15972e5017df0575c3d6c090ba168b6db90259e620ac8d7ea813a396bad5b6cb",
    "2.2.0": "98b33b13ad76ee9c7a80d2f56a6c578780e55bf8281790c62d50d4b7fadec2b8",
    "2.2.1": "9c2b81b9b1edcc835af72d600f1955e713a065e7cb41d7e51ee762b449d9c65d",
    "2.2.2": "642c450d19c4ad482f96729bd2a8f6d32554aa1e231f4f6b4e7e5264b16cca2b",
    "2.2.3": "7eb373984bf1c770023fce9db164ed0c3353cd0b53f130f4693da0ca756a2e6d",
    "2.2.4": "77504c4c097f56ac5f29b00f9009213010cf9d2923a288c0e0564a5db2bb53d6",
    "2.2.5": "edee9b0a7ff26621bd5a8c10ff484ae28737a2410d99b0bb9a6850c7fb977aa0",
    "2.3.0": "4088b4986f13cae23e02081e67df7e4e434ec6f85a5238bce5e6db6d1de61e06",
    "2.3.1": "a6059db4297106e5a64b3215fa16ae641822c1cb97ecb498573549b2478602cb",
    "2.3.2": "8c2f9abd47a9e8df7f0c3f091ce9497d011dc3b31effcf4c85a6e2b50f4114ef",
    "2.3.3": "09c347a92aa7ff4a8e7f3206795f30d826654baf38b873d0744cd571ca609efc",
    "3.0.0": "cfadcdb638b609361d29ec22360d6070a77d7463dcb3ab08d2c2f2f168845f58",
    "3.0.1": "6489f51bb3666def6f314e15f19d50a1869a19ae0e8c9a3641ffe66c77d42403",
    "3.0.2": "822c03f4b799204250a7ee84b1eddc40665395333973dfb9deebfe425fefcb7d",
    "3.0.3": "ceb27b0af3823ea2737928a4d99d125a06175b8512c445cbd9a9ce200ef76842",
    "3.1.0": "5f873c5184c897c8d9d1b05df1e3d01b14910ce69607a117bd3277098a5836ac",
    "3.1.1": "284c7b8f2f58cb737f0cf1c30fd7eaf0ccfcde196099d24ecede3fc2005aa59e",
    "3.1.2": "bf656c15c80190ed628ad08cdfd3aaa35beb087855e2f494910aa3774cc4fd87",
    "3.1.3": "0ef0e52b8a9cd932855379197dd8f94047b359ca0a78695144304cb45f87c9eb",
}
LATEST = "3.1.3"
CACHE = Path(__file__).resolve().parents[2] / ".cache" / "sdists"
AT_ONCE = 4  # pip builds each one's metadata
DOWNLOAD_SECONDS = 120


def fetch(versions: Iterable[str] = RELEASES) -> None:
    """Have these releases, from the package index or from an earlier run. Raises RuntimeError."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(_download, [version for version in versions if not _path(version).exists()]))


def unpack(version: str, into: Path) -> None:
    """Unpack one release as the directory `into`, which must not exist."""
    fetch([version])
    path = _path(version)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == RELEASES[version], (
        f"{path} is not what was released"
    )
    with tarfile.open(path) as archive:
        top = archive.getnames()[0].split("/")[0]
        archive.extractall(into.parent, filter="data")
    (into.parent / top).rename(into)


def _path(version: str) -> Path:
    """Where it is. The project's name lost its capital on the way."""
    name = "Flask" if tuple(map(int, version.split("."))) < (2, 3, 3) else "flask"
    return CACHE / f"{name}-{version}.tar.gz"


def _download(version: str) -> None:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command = [*pip, "--no-deps", "--no-binary", ":all:", "--dest", str(CACHE), f"flask=={version}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS, check=False)
    if done.returncode != 0:
        raise RuntimeError(
            f"Flask {version} cannot be downloaded; mend this and run again:\n{done.stderr[-2000:]}"
        )


if __name__ == "__main__":
    try:
        fetch()
    except RuntimeError as error:
        sys.exit(str(error))
