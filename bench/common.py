"""What the scripts here share: the sets of a folder, flags for training, the commit."""
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def arguments():
    """The command line without the program's name, and what stands after `--`: flags for `pbas train`."""
    argv = sys.argv[1:]
    if "--" not in argv:
        return argv, []
    at = argv.index("--")
    return argv[:at], argv[at + 1:]


def sets_of(folder, names):
    """The named sets of a folder, or all that are there."""
    found = names.split(",") if names else sorted(p.name for p in folder.iterdir() if (p / "train/good").is_dir())
    if not found:
        sys.exit(f"no set with train/good in {folder}")
    return found


def commit():
    def git(*args):
        return subprocess.run(["git", "-C", str(ROOT), *args], capture_output=True, text=True).stdout.strip()
    changed = git("status", "--porcelain", "--untracked-files=no", "--", "crates", "Cargo.toml", "Cargo.lock")
    return git("rev-parse", "--short", "HEAD") + (" with uncommitted changes" if changed else "")
