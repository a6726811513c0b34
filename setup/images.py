"""Build the images of the project: ``python setup/images.py [NAME...]``, with Docker, Podman or Buildah.

The names are ``operator``, ``flink``, ``spark`` and ``testbed``; the last holds what the end-to-end tests need around
the product. For each it prints a line ``NAME=reference archive``: the reference as a cluster's nodes know it, and the
file (of the form ``docker-archive``) to load it from. A reference has a hash of all that goes into the image for a tag,
so an image that is there is never stale. Debian's packages are the exception: they are those of the day of the build.

Archives are in ``${XDG_CACHE_HOME:-~/.cache}/lakehouse/images``, each with its size and checksum in a file beside it,
which are checked before it is offered. The last two of each name are kept.

Docker is used if it answers, else Podman, else Buildah, which is installed where that may be done. Buildah keeps its
layers in ``lakehouse/buildah`` in the same cache and builds on a Debian that ``debootstrap`` makes, as root; the others
build on ``docker.io/library/debian:bookworm-slim``.

Environment:
    LAKEHOUSE_BASE_IMAGE: What to build on instead: a Debian 12 or what is like it.
    SSL_CERT_FILE, PIP_CERT, REQUESTS_CA_BUNDLE: A bundle of certificates that the downloads of the build trust. It is
        not in the image.
    PIP_INDEX_URL, MAVEN_REPOSITORY: Where packages and jars come from instead of PyPI and Maven Central.
"""

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import catalog_programs
import debian
import envelope_format
import jars
import java
import testbed_programs
from pinned_go import CACHE, SetupError

ROOT: Final = Path(__file__).resolve().parent.parent
ARCHIVES: Final = CACHE / "images"
PRODUCT: Final = ("operator", "flink", "spark")
TESTBED: Final = "testbed"
NAMES: Final = (*PRODUCT, TESTBED)
PUBLIC_BASE: Final = "docker.io/library/debian:bookworm-slim"
KEPT: Final = 2
"""How many archives of each name stay."""

_CERTIFICATES: Final = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE")
_PASSED_ON: Final = ("PIP_INDEX_URL", "MAVEN_REPOSITORY")
_BUILD_STAGE: Final = "build"
_STAGES: Final = re.compile(r"^FROM \S+ AS (\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Image:
    """An image that has been built.

    Attributes:
        reference: Its name and tag, such as ``localhost/lakehouse-flink:0123456789abcdef``.
        archive: The file that it can be loaded from.
    """

    reference: str
    archive: Path


@dataclass(frozen=True, slots=True)
class Recipe:
    """What an image is made of.

    Attributes:
        name: Its short name, such as ``flink``.
        dockerfile: How it is built.
        files: What the Dockerfile may copy: path in the build's context -> file on this machine.
    """

    name: str
    dockerfile: Path
    files: Mapping[str, Path]

    @property
    def repository(self) -> str:
        """The reference without its tag."""
        return f"localhost/lakehouse-{self.name}"

    @property
    def stages(self) -> tuple[str, ...]:
        """The names of the stages that are not the image itself."""
        return tuple(_STAGES.findall(self.dockerfile.read_text(encoding="utf-8")))

    def key(self, base: str) -> str:
        """A hash of all that goes in: the Dockerfile, the files with their paths and modes, the base, the machine."""
        digest = hashlib.sha256()
        content = {"Dockerfile": self.dockerfile, **self.files}
        parts = [base.encode(), platform.machine().encode()]
        for path in sorted(content):
            mode = "x" if os.access(content[path], os.X_OK) else "-"
            parts += [f"{mode} {path}".encode(), jars.sha256_of(content[path]).encode()]
        for part in parts:
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(part)
        return digest.hexdigest()[:16]

    def lay_out(self, folder: Path) -> "Recipe":
        """Copy everything into a folder, readable for all, and return the recipe that has the copies.

        What is hashed and built then is the same, also when somebody edits the files meanwhile.
        """
        laid = Recipe(self.name, folder / "Dockerfile", {path: folder / "context" / path for path in self.files})
        copies = {laid.dockerfile: self.dockerfile, **{laid.files[path]: self.files[path] for path in self.files}}
        for target, source in copies.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
            target.chmod(0o755 if os.access(source, os.X_OK) else 0o644)
        return laid


@dataclass(frozen=True, slots=True)
class Tool:
    """A program that builds images.

    Attributes:
        name: ``docker``, ``podman`` or ``buildah``.
        command: How to call it, with the options that come before a subcommand.
    """

    name: str
    command: tuple[str, ...]

    def build(
        self, reference: str, dockerfile: Path, context: Path, *options: str, arguments: Mapping[str, str] | None = None
    ) -> list[str]:
        """The command that builds an image."""
        how = {
            "docker": ("build", "--network=host"),
            "podman": ("build", "--network=host", "--format=docker", "--layers"),
            "buildah": ("bud", "--isolation=chroot", "--network=host", "--format=docker", "--layers"),
        }[self.name]
        given = [f"--build-arg={name}={value}" for name, value in (arguments or {}).items()]
        return [*self.command, *how, *given, *options, "-f", str(dockerfile), "-t", reference, str(context)]

    def save(self, reference: str, archive: Path) -> list[str]:
        """The command that writes an image into an archive, which must not be there yet."""
        match self.name:
            case "docker":
                return [*self.command, "save", "-o", str(archive), reference]
            case "podman":
                return [*self.command, "save", "--format=docker-archive", "-o", str(archive), reference]
            case _:
                return [*self.command, "push", "-q", reference, f"docker-archive:{archive}:{reference}"]

    def references(self) -> list[str]:
        """The references of all images that it has."""
        shape = "{{.Name}}:{{.Tag}}" if self.name == "buildah" else "{{.Repository}}:{{.Tag}}"
        return _answer([*self.command, "images", "--format", shape]).split()

    def remove(self, references: Sequence[str]) -> None:
        """Take references away, and what no other image needs."""
        if self.name == "buildah":
            # A build that was killed leaves its containers, and what they use can't be removed.
            subprocess.run([*self.command, "rm", "--all"], capture_output=True, check=False)
        for reference in references:
            subprocess.run([*self.command, "rmi", reference], capture_output=True, check=False)
        # Docker and Podman have other users, who see to layers without a reference.
        if self.name == "buildah":
            subprocess.run([*self.command, "rmi", "--prune"], capture_output=True, check=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Build what the command line names, or all. Return the exit code."""
    parser = argparse.ArgumentParser(prog="images.py", description="Build the images of the project.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(NAMES)}; all if none is named")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in NAMES]
    if unknown:
        parser.error(f"there is no image called {unknown[0]!r}; the images are {', '.join(NAMES)}")
    try:
        for name in options.names or NAMES:
            image = built([name])[name]
            print(f"{name}={image.reference} {image.archive}", flush=True)
    except (SetupError, debian.CannotInstall, jars.JarError, envelope_format.DoesNotCompile, OSError) as error:
        print(f"setup/images.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; what is complete is kept", file=sys.stderr)
        return 130
    return 0


def built(names: Sequence[str] = NAMES) -> dict[str, Image]:
    """The images of these names, built where they are not there yet.

    Raises:
        SetupError: One can't be built here; the message says why.
        debian.CannotInstall: Neither Docker nor Podman answers, and Buildah is missing.
        jars.JarError: A jar can't be had.
    """
    tool = find_tool()
    base = os.environ.get("LAKEHOUSE_BASE_IMAGE") or (_debian_reference() if tool.name == "buildah" else PUBLIC_BASE)
    found = {}
    for name in names:
        recipe = recipe_of(name)
        found[name] = _ready(recipe, base) or _make(recipe, base, tool)
    return found


def find_tool() -> Tool:
    """The program to build with.

    Raises:
        debian.CannotInstall: There is none, and a person has to install one.
    """
    for name in ("docker", "podman"):
        program = shutil.which(name)
        if program and subprocess.run([program, "info"], capture_output=True, check=False).returncode == 0:
            return Tool(name, (program,))
    why = "to build images takes Docker or Podman that answers, or Buildah"
    if os.geteuid() != 0:
        raise debian.CannotInstall(f"{why} with the rights of root (see docs/images.md)")
    if shutil.which("buildah") is None:
        debian.install(("buildah",), why)
    home = CACHE / "buildah"
    (home / "tmp").mkdir(parents=True, exist_ok=True)
    return Tool("buildah", ("buildah", f"--root={home / 'storage'}", f"--runroot={home / 'run'}"))


def recipe_of(name: str) -> Recipe:
    """What the image of this name is made of. For the testbed, jars and programs are got and built first.

    Raises:
        SetupError: A program can't be built.
        jars.JarError: A jar can't be had.
        envelope_format.DoesNotCompile: Our part of the REST catalog does not compile.
    """
    dockerfile = ROOT / "images" / name / "Dockerfile"
    text = dockerfile.read_text(encoding="utf-8")
    return Recipe(name, dockerfile, _testbed_files(text) if name == TESTBED else files_of(copied(text)))


def copied(dockerfile: str) -> list[str]:
    """What a Dockerfile copies out of the context: files and folders."""
    found = []
    for line in re.sub(r"\\\n\s*", " ", dockerfile).splitlines():
        keyword, *words = line.split() or [""]
        if keyword == "COPY" and not any(word.startswith("--from=") for word in words):
            found += [word for word in words if not word.startswith("--")][:-1]
    return found


def files_of(sources: Sequence[str], root: Path | None = None) -> dict[str, Path]:
    """The files under these files and folders of the repository, by their path in it; no caches.

    Raises:
        SetupError: One of them is not there.
    """
    found = {}
    for source in sources:
        place = (root or ROOT) / source
        if not place.exists():
            raise SetupError(f"a Dockerfile copies {source}, which is not there")
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if path.is_file() and "__pycache__" not in path.parts:
                found[path.relative_to(root or ROOT).as_posix()] = path
    return found


def _testbed_files(dockerfile: str) -> dict[str, Path]:
    """What lies ready in the repository, and beside it what the image's Dockerfile finds in `bin` and `lib` alone."""
    locked = jars.read_lock()
    folders = {"kafka": ("kafka",), "flink-operator": ("flink-operator", "flink-operator-guava")}
    files: dict[str, Path] = {}
    for folder, sets in folders.items():
        fetched = jars.Downloads().fetch(jars.choose(locked, sets))
        files |= {f"lib/{folder}/{name}": path for name, path in fetched.items()}
    rest_catalog = catalog_programs.rest_catalog(java.find_or_install(os.environ).home)
    files |= {f"lib/rest-catalog/{path.name}": path for path in rest_catalog.glob("*.jar")}
    files |= {f"bin/{path.name}": path for path in testbed_programs.programs()}
    own = ROOT / "images" / TESTBED
    for folder in ("lib", "scripts"):
        files |= files_of([folder], own)
    others = [source for source in copied(dockerfile) if source not in ("bin/", "lib/", "scripts/")]
    return files | files_of(others)


def _image_of(recipe: Recipe, base: str) -> Image:
    key = recipe.key(base)
    return Image(f"{recipe.repository}:{key}", ARCHIVES / f"{recipe.name}-{key}.tar")


def _sidecar(archive: Path) -> Path:
    return archive.with_suffix(".json")


def _ready(recipe: Recipe, base: str) -> Image | None:
    """The image, if its archive is there and whole."""
    image = _image_of(recipe, base)
    if not is_whole(image.archive, image.reference):
        return None
    image.archive.touch()  # the last used are kept
    return image


def is_whole(archive: Path, reference: str) -> bool:
    """Say whether an archive is what was written once, for this reference."""
    try:
        noted = json.loads(_sidecar(archive).read_text(encoding="utf-8"))
        if (noted["reference"], noted["size"]) != (reference, archive.stat().st_size):
            return False
        return bool(noted["sha256"] == jars.sha256_of(archive))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _make(recipe: Recipe, base: str, tool: Tool) -> Image:
    """Build the image and write its archive. One process at a time; the second finds it done."""
    ARCHIVES.mkdir(parents=True, exist_ok=True)
    with jars.alone(ARCHIVES / "lock", "another run is building images: waiting for it"):
        if ready := _ready(recipe, base):
            return ready
        # With the lock in hand, a draft that lies around is one of a run that was killed.
        for draft in ARCHIVES.glob(".making-*"):
            shutil.rmtree(draft, ignore_errors=True)
        if base == _debian_reference():
            _make_debian(base, tool)
        with tempfile.TemporaryDirectory(dir=ARCHIVES, prefix=".making-") as name:
            scratch = Path(name)
            recipe = recipe.lay_out(scratch / "recipe")
            image = _image_of(recipe, base)
            draft = scratch / image.archive.name
            _build(recipe, image.reference, base, tool, scratch / "recipe" / "context")
            _run(tool.save(image.reference, draft))
            _note(image.archive, image.reference, draft)
            prune_archives(recipe.name)
            _prune_store(recipe, tool)
    return image


def _build(recipe: Recipe, reference: str, base: str, tool: Tool, context: Path) -> None:
    print(f"building {reference} with {tool.name}", file=sys.stderr, flush=True)
    # An argument that a Dockerfile does not declare is only worth a warning, but none is better.
    text = recipe.dockerfile.read_text(encoding="utf-8")
    passed = {name: os.environ[name] for name in _PASSED_ON if os.environ.get(name) and f"ARG {name}=" in text}
    arguments = {"BASE": base, **passed}
    secret = [f"--secret=id=certificates,src={bundle}"] if (bundle := certificates(os.environ)) else []
    for stage in recipe.stages:
        # With a reference of its own, the layers of the stage outlive a pruning, and the next build starts from them.
        target = f"{recipe.repository}-{stage}:{reference.rpartition(':')[2]}"
        _run(tool.build(target, recipe.dockerfile, context, f"--target={stage}", *secret, arguments=arguments))
    _run(tool.build(reference, recipe.dockerfile, context, *secret, arguments=arguments))


def certificates(environment: Mapping[str, str]) -> Path | None:
    """The bundle of certificates that this machine's downloads trust, if one was chosen."""
    chosen = (Path(environment[name]) for name in _CERTIFICATES if environment.get(name))
    return next((path for path in chosen if path.is_file()), None)


def _note(archive: Path, reference: str, draft: Path) -> None:
    """Put a new archive in its place, and beside it what it must look like."""
    noted = {"reference": reference, "size": draft.stat().st_size, "sha256": jars.sha256_of(draft)}
    _sidecar(archive).unlink(missing_ok=True)
    draft.replace(archive)
    temporary = archive.with_suffix(".json.new")
    temporary.write_text(json.dumps(noted, indent=2) + "\n", encoding="utf-8")
    temporary.replace(_sidecar(archive))


def prune_archives(name: str) -> None:
    """Remove the archives of an image but the last used."""
    mine = [path for path in ARCHIVES.glob(f"{name}-*.tar") if re.fullmatch(rf"{name}-[0-9a-f]{{16}}", path.stem)]
    for old in sorted(mine, key=lambda path: path.stat().st_mtime, reverse=True)[KEPT:]:
        _sidecar(old).unlink(missing_ok=True)
        old.unlink()


def _prune_store(recipe: Recipe, tool: Tool) -> None:
    """Remove the images of a recipe that have no archive any more."""
    keys = {path.stem.rpartition("-")[2] for path in ARCHIVES.glob(f"{recipe.name}-*.tar")}
    mine = {recipe.repository, *(f"{recipe.repository}-{stage}" for stage in recipe.stages)}
    split = [(each, *each.rpartition(":")[::2]) for each in tool.references()]
    tool.remove([each for each, repository, key in split if repository in mine and key not in keys])


_SUITE: Final = "bookworm"
_SOURCES: Final = """\
Types: deb
URIs: http://deb.debian.org/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://deb.debian.org/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""
_NO_DOCUMENTATION: Final = """\
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/man/*
path-exclude /usr/share/info/*
path-exclude /usr/share/lintian/*
path-exclude /usr/share/locale/*
"""
_NO_CACHES: Final = """\
Acquire::Languages "none";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb || true"; };
"""
_SLIM: Final = (
    r"find usr/share/doc -type f ! -name copyright -delete; find usr/share/doc -type l -delete; "
    r"find usr/share/doc -type d -empty -delete; "
    r"rm -rf usr/share/man/* usr/share/info/* usr/share/locale/* usr/share/lintian var/lib/apt/lists/* "
    r"var/cache/apt/* var/cache/debconf/*-old var/log/* etc/resolv.conf etc/hostname"
)
_DEBIAN_DOCKERFILE: Final = 'FROM scratch\nADD rootfs.tar /\nCMD ["bash"]\n'


def _debian_reference() -> str:
    ingredients = (_SUITE, _SOURCES, _NO_DOCUMENTATION, _NO_CACHES, _SLIM, _DEBIAN_DOCKERFILE)
    return f"localhost/debian:{_SUITE}-slim-{hashlib.sha256(repr(ingredients).encode()).hexdigest()[:16]}"


def _make_debian(reference: str, tool: Tool) -> None:
    """Make the base: the least Debian there is, without documentation, as Debian's own slim image is made."""
    if reference in tool.references():
        return
    if shutil.which("debootstrap") is None:
        debian.install(("debootstrap",), "to make the base of the images takes debootstrap")
    print(f"making {reference}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=ARCHIVES, prefix=".making-") as name:
        scratch = Path(name)
        system = scratch / "system"
        # What it mounts for a while is mounted for itself alone: nothing stays when it is killed.
        _run(["unshare", "--mount", "debootstrap", "--variant=minbase", _SUITE, str(system)])
        (system / "etc/apt/sources.list").unlink()
        (system / "etc/apt/sources.list.d/debian.sources").write_text(_SOURCES, encoding="utf-8")
        (system / "etc/dpkg/dpkg.cfg.d/no-documentation").write_text(_NO_DOCUMENTATION, encoding="utf-8")
        (system / "etc/apt/apt.conf.d/no-caches").write_text(_NO_CACHES, encoding="utf-8")
        _run(["sh", "-c", _SLIM], folder=system)
        context = scratch / "context"
        context.mkdir()
        _run(["tar", "--numeric-owner", "-C", str(system), "-cf", str(context / "rootfs.tar"), "."])
        dockerfile = scratch / "Dockerfile"
        dockerfile.write_text(_DEBIAN_DOCKERFILE, encoding="utf-8")
        _run(tool.build(reference, dockerfile, context))
    family = reference.rpartition("-")[0]
    tool.remove([each for each in tool.references() if each.startswith(family) and each != reference])


def _run(command: Sequence[str], folder: Path | None = None) -> None:
    """Run a command; what it says is shown only if it fails."""
    done = subprocess.run(
        ["nice", "-n", "5", *command],
        cwd=folder,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        print(done.stdout, file=sys.stderr)
        raise SetupError(f"{' '.join(command[:2])} ... ended with code {done.returncode}; its messages are above")


def _answer(command: Sequence[str]) -> str:
    done = subprocess.run(command, env=_environment(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SetupError(f"{' '.join(command[:2])} ... ended with code {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def _environment() -> dict[str, str]:
    # Buildah puts whole layers into its temporary folder, which may be too small elsewhere.
    return os.environ | {"TMPDIR": str(CACHE / "buildah" / "tmp")} if (CACHE / "buildah").is_dir() else dict(os.environ)


if __name__ == "__main__":
    sys.exit(main())
