"""What the shop sells, a module for each shelf."""
