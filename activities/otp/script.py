"""A release's own script, ``bin/NAME``: what it can be asked, and what its answers mean."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, NoReturn

from activities.errors import INVALID_CONFIGURATION, UNAVAILABLE, fail
from activities.otp.hosts import Answer, ReleaseHost
from domain.hot_upgrade import NodeObservation, NodeTarget

PACKAGE_MISSING: Final = 2
NO_INSTALLATION: Final = 3
INSTALLATION_FAILED: Final = 4

_NO_SCRIPT: Final = 126
_SIGHT = re.compile(r'"node (\d+) (\w+)((?: [^\s"]+=\w+)*)"')
_BROKEN_STRING = re.compile(r'"\s+"')
"""Erlang breaks long strings."""
_DETAILS = re.compile(r'[\["]|#\{|<<')
_RUNNING_STATES: Final = ("current", "tmp_current")

# The script writes vm.args and sys.config anew whenever it is called, from the variables it is called with.
# Only the upgrade itself may do that, and not to the version that runs.
_ASIDE: Final = """\
[ -f "$1" ] && [ -x "$1" ] || exit 126
aside=$(mktemp -d) || exit 125
trap 'rm -rf "$aside"' EXIT
trap 'exit 143' TERM INT HUP
RELX_OUT_FILE_PATH=$aside "$@"
"""
_DIFFERING: Final = """\
root=$1 name=$2 version=$3
aside=$(mktemp -d) || exit 125
trap 'rm -rf "$aside"' EXIT
trap 'exit 143' TERM INT HUP
script=$root/bin/$name-$version
[ -x "$script" ] || script=$root/bin/$name
RELX_OUT_FILE_PATH=$aside "$script" ping >/dev/null || exit $?
for file in sys.config vm.args; do
    running=$root/releases/$version/$file
    if [ -f "$aside/$file" ] && [ -f "$running" ] && ! cmp -s "$aside/$file" "$running"; then
        echo "$file"
    fi
done
"""
_CONFIGURE: Final = """\
script=$1/bin/$2-$3
if [ "$4" = missing ] && [ -f "$1/releases/$3/sys.config" ]; then exit 0; fi
[ ! -x "$script" ] || exec "$script" ping
"""
_ADOPT_SCRIPT: Final = """\
cd "$1/bin" || exit $?
if [ -f "$2-$3" ] && ! cmp -s "$2-$3" "$2"; then
    cp -p "$2-$3" ".$2.new" && mv -f ".$2.new" "$2"
fi
"""
_NOTE: Final = 'printf "%s\\n" "$2" >"$1.new" && mv -f "$1.new" "$1"'
_READ: Final = '[ ! -f "$1" ] || cat "$1"'
# As the script's `versions`, and which life of the node says so. The release handler answers when it has done
# what it was at; if that failed, init knows by then that it shall restart.
_LOOK: Final = """
Known = release_handler:which_releases(),
lists:flatten(io_lib:format("node ~b ~w~s", [
    erlang:system_info(creation),
    element(1, init:get_status()),
    [[" ", Version, "=", atom_to_list(State)] || {_, Version, _, State} <- Known]])).
"""

# Which version boots is known in three places: RELEASES, start_erl.data, and the running emulator. Other than
# release_handler:make_permanent/1, this works for a version that does not run. The last step restarts.
_RESTART: Final = """
Version = "{version}",
{{ok, [[Root]]}} = init:get_argument(root),
Directory = filename:join(Root, "releases"),
{{ok, [Known]}} = file:consult(filename:join(Directory, "RELEASES")),
{{value, Release}} = lists:keysearch(Version, 3, Known),
Emulator = erlang:system_info(version),
case element(4, Release) of
    Emulator ->
        Mark = fun(R) when element(3, R) =:= Version -> setelement(6, R, permanent);
                  (R) when element(6, R) =:= unpacked -> R;
                  (R) -> setelement(6, R, old) end,
        Text = unicode:characters_to_binary(
            io_lib:format("%% coding: utf-8~n~tp.~n", [lists:map(Mark, Known)])),
        Put = fun(Name, Content) ->
            Path = filename:join(Directory, Name),
            ok = file:write_file(Path ++ ".new", Content),
            ok = file:rename(Path ++ ".new", Path) end,
        ok = Put("RELEASES", Text),
        ok = Put("start_erl.data", [Emulator, " ", Version]),
        Configuration = filename:join([Directory, Version, "sys.config"]),
        Sys = case filelib:is_file(Configuration) of
            true -> filename:rootname(Configuration);
            false -> false end,
        ok = init:make_permanent(filename:join([Directory, Version, "start"]), Sys),
        ok = init:restart(),
        erlmcp_deploy_restarting;
    _ -> erlmcp_deploy_other_emulator
end.
"""


@dataclass(frozen=True, slots=True)
class Life:
    """One life of a node, from boot to restart: its number, and what its ``init`` does."""

    creation: int
    phase: str

    @property
    def started(self) -> bool:
        return self.phase == "started"


class ReleaseScript:
    """Speaks to one node through its release's script."""

    def __init__(self, target: NodeTarget, host: ReleaseHost) -> None:
        self._target = target
        self._host = host
        self._root = target.node.path
        self._name = target.release

    @property
    def host(self) -> ReleaseHost:
        return self._host

    def package(self, version: str) -> str:
        """Where the script looks for a version's tarball."""
        return f"{self._root}/releases/{self._name}-{version}.tar.gz"

    async def observe(self) -> tuple[NodeObservation, Life | None]:
        """What the node says of itself, and its life; one that is starting or stopping does not run.

        Raises:
            ApplicationError: InvalidConfiguration, if there is no such release.
        """
        answer = await self._ask("eval", _LOOK)
        text = _BROKEN_STRING.sub("", answer.output)
        found = _SIGHT.search(text)
        if answer.status == _NO_SCRIPT or (answer.status == 0 and "{undef,[{release_handler," in text):
            fail(
                INVALID_CONFIGURATION,
                f"node {self._target.node.name}: {self._root}/bin/{self._name} is no release that can be "
                "upgraded: correct `path` or `release` of hot_upgrade; the release needs sasl",
            )
        if found is None:
            return NodeObservation(running=False), None
        life = Life(int(found.group(1)), found.group(2))
        versions = dict(known.rsplit("=", 1) for known in found.group(3).split())
        if not life.started:
            return NodeObservation(running=False), life
        permanent = next((v for v, state in versions.items() if state == "permanent"), None)
        current = next((v for v, state in versions.items() if state in _RUNNING_STATES), permanent)
        seen = NodeObservation(running=True, version=current, permanent=permanent, versions=versions)
        return seen, life

    async def check_environment(self, permanent: str) -> None:
        """The variables must be those the node was started with, or the new version gets others.

        Raises:
            ApplicationError: InvalidConfiguration.
        """
        answer = await self._shell(_DIFFERING, self._root, self._name, permanent)
        if answer.status != 0:
            self._unexpected("ping", answer)
        if answer.output.strip():
            files = " and ".join(answer.output.split())
            fail(
                INVALID_CONFIGURATION,
                f"node {self._target.node.name}: {files} of {permanent} would be others with "
                "`hot_upgrade.environment`: name all variables there that the node was started with",
            )

    async def unpack(self, version: str) -> Answer:
        """Make a version known to the node, from its package."""
        # A link that an interrupted attempt left makes the script fail.
        await self._shell('rm -f "$1"', f"{self._root}/releases/{version}/{self._name}.tar.gz")
        return await self._ask("unpack", version)

    async def forget(self, version: str) -> Answer:
        """Remove a version that does not run."""
        return await self._ask("uninstall", version)

    async def configure(self, version: str, *, anew: bool) -> None:
        """Write the version's configuration: the script does so for the version that boots only, and an
        upgrade to a version without would leave its applications their defaults.
        """
        what = "all" if anew else "missing"
        answer = await self._shell(_CONFIGURE, self._root, self._name, version, what)
        if answer.status != 0:
            self._unexpected("ping", answer)

    async def install(self, verb: str, version: str, *, permanent: bool) -> Answer:
        """``upgrade`` or ``downgrade``, to be made permanent or not."""
        return await self._ask(verb, *(() if permanent else ("--no-permanent",)), version)

    async def adopt(self, version: str) -> None:
        """Let ``bin/NAME`` boot this version: an interrupted ``upgrade`` may not have come that far."""
        answer = await self._shell(_ADOPT_SCRIPT, self._root, self._name, version)
        if answer.status != 0:
            self._unexpected(f"the script of {version}", answer)

    async def restart(self, version: str) -> bool:
        """Boot a version that is unpacked, inside the running emulator; no, if it needs another one."""
        answer = await self._ask("eval", _RESTART.format(version=version))
        if "erlmcp_deploy_other_emulator" in answer.output:
            return False
        # `eval` ends with 0 even if the expression failed.
        if answer.status != 0 or "erlmcp_deploy_restarting" not in answer.output:
            self._unexpected(f"the restart in {version}", answer)
        return True

    async def digest(self, version: str) -> str | None:
        """Of the version's package; none if it is not there."""
        path = self.package(version)
        answer = await self._shell('[ ! -f "$1" ] || sha256sum "$1"', path)
        if answer.status != 0:
            self._unexpected("sha256sum", answer)
        words = answer.output.split()
        return f"sha256:{words[0].lstrip(chr(92))}" if words else None

    async def note(self, name: str, text: str) -> None:
        """Keep a line on the node."""
        answer = await self._shell(_NOTE, self._notes(name), text)
        if answer.status != 0:
            fail(
                INVALID_CONFIGURATION,
                f"node {self._target.node.name}: {self._root}/releases cannot be written: {answer.ending()}",
            )

    async def noted(self, name: str) -> str:
        """A line that was kept on the node; empty if there is none."""
        return (await self._shell(_READ, self._notes(name))).output.strip()

    def _notes(self, name: str) -> str:
        return f"{self._root}/releases/.{self._name}-{name}"

    async def _ask(self, *arguments: str) -> Answer:
        return await self._shell(_ASIDE, str(PurePosixPath(self._root, "bin", self._name)), *arguments)

    async def _shell(self, script: str, *arguments: str) -> Answer:
        return await self._host.run("sh", "-c", script, "sh", *arguments)

    def _unexpected(self, what: str, answer: Answer) -> NoReturn:
        subject = f"node {self._target.node.name}: {self._root}/bin/{self._name}"
        fail(UNAVAILABLE, f"{subject}: {what}: {failure_in(answer)}")


def has_no_path(answer: Answer) -> bool:
    """Whether an installation failed for want of a relup, be it of no entry in it or of the file."""
    if answer.status not in (NO_INSTALLATION, INSTALLATION_FAILED):
        return False
    text = _BROKEN_STRING.sub("", answer.output)
    return "no_matching_relup" in text or re.search(r'enoent,\s*"[^"]*/relup"', text) is not None


def failure_in(answer: Answer) -> str:
    """Why a command of the script failed, in one line; without values, which are the state of the service.

    What Erlang says of a crash can hold the cookie as well, wherever it comes from.
    """
    text = " ".join(answer.output.split())
    found = re.search(r"(?:ERROR: |Unpack failed: |Uninstall failed: |exception error: )(.*)", text)
    if found is None:
        return f"ended with status {answer.status}"
    words = _DETAILS.split(found.group(1), maxsplit=1)[0].rstrip(" ,{(")
    where = re.search(r"\[\{\s*(\w+),\s*(\w+),", found.group(1))
    return f"{words[:300]} in {where.group(1)}:{where.group(2)}" if where else words[:300]
