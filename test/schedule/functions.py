"""The functions that the schedule uploads: good ones and broken ones.

Owns their code. Each does what the first line of its input asks for,
`KIND ARGUMENT TOKEN`, and its reply begins with `VERSION TOKEN`, so that it can
be told who has answered what. `mark` adds the token to the file that its variable
MARKS names: so it can be told which calls have run, and that none did twice.
"""

from blackbox import folders

ENVIRONMENTS = ("python3", "nodejs", "binary")

_PYTHON = """
import os, signal, subprocess, time

GUARD = os.getppid()

def stream(said, count):
    yield said + '\\n'
    for number in range(count):
        time.sleep(0.01)
        yield f'piece {number}\\n'

def fn(input, headers):
    line, _, rest = (input or '').partition('\\n')
    kind, argument, token = line.split(' ')
    said = 'VERSION ' + token
    if kind == 'sleep':
        time.sleep(float(argument))
    elif kind == 'fail':
        raise ValueError(said)
    elif kind == 'teapot':
        return said, 418
    elif kind == 'stream':
        return stream(said, int(argument))
    elif kind == 'take':
        return f'{said} {len(rest)}'
    elif kind == 'give':
        return said + '\\n' + 'x' * int(argument)
    elif kind == 'print':
        for number in range(int(argument)):
            print('line', number, said)
    elif kind == 'litter':
        with open('litter-' + token, 'w') as file:
            file.write('x' * 10000)
    elif kind == 'mark':
        with open(os.environ['MARKS'], 'a') as file:
            file.write(token + '\\n')
    elif kind == 'daemon':
        subprocess.Popen(['sleep', '3600'], start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    elif kind == 'crash':
        if argument == 'guard':
            os.kill(GUARD, signal.SIGKILL)
        elif argument == 'stopped':
            os.kill(GUARD, signal.SIGSTOP)
        elif argument == 'signal':
            os.kill(os.getpid(), signal.SIGKILL)
        elif argument == 'socket':
            os.closerange(3, 10)
            time.sleep(30)
        os._exit(3)
    elif kind == 'hog':
        ends = time.monotonic() + float(argument)
        while time.monotonic() < ends:
            pass
    return said
"""

_NODE = """
const { spawn } = require('child_process')
const fs = require('fs')
const guard = process.ppid
module.exports = (req, res) => {
  const end = req.body.indexOf('\\n')
  const [kind, argument, token] = req.body.slice(0, end).split(' ')
  const said = 'VERSION ' + token
  const count = Number(argument)
  if (kind === 'sleep') return setTimeout(() => res.send(said), count * 1000)
  if (kind === 'fail') throw new Error(said)
  if (kind === 'teapot') return res.status(418).send(said)
  if (kind === 'stream') {
    res.write(said + '\\n')
    let number = 0
    const next = () => {
      if (number === count) return res.end()
      res.write('piece ' + number++ + '\\n')
      setTimeout(next, 10)
    }
    return setTimeout(next, 10)
  }
  if (kind === 'take') return res.send(said + ' ' + (req.body.length - end - 1))
  if (kind === 'give') return res.send(said + '\\n' + 'x'.repeat(count))
  if (kind === 'print') for (let n = 0; n < count; n++) console.log('line', n, said)
  if (kind === 'litter') fs.writeFileSync('litter-' + token, 'x'.repeat(10000))
  if (kind === 'mark') fs.appendFileSync(process.env.MARKS, token + '\\n')
  if (kind === 'daemon') spawn('sleep', ['3600'], { detached: true, stdio: 'ignore' }).unref()
  if (kind === 'crash') {
    if (argument === 'guard') process.kill(guard, 'SIGKILL')
    if (argument === 'stopped') process.kill(guard, 'SIGSTOP')
    if (argument === 'signal') process.kill(process.pid, 'SIGKILL')
    process.exit(3)
  }
  if (kind === 'hog') for (const ends = Date.now() + count * 1000; Date.now() < ends;);
  res.send(said)
}
"""

# Its worker is the parent of each script, and the guard is the worker's.
_SHELL = """#!/bin/sh
read -r kind argument token
said="VERSION $token"
case $kind in
sleep) sleep "$argument" ;;
fail) printf '%s' "$said"; exit 1 ;;
stream)
    echo "$said"
    number=0
    while [ "$number" -lt "$argument" ]; do
        sleep 0.01
        echo "piece $number"
        number=$((number + 1))
    done
    exit ;;
take) said="$said $(wc -c | tr -d ' ')" ;;
give) echo "$said"; head -c "$argument" /dev/zero | tr '\\0' x; exit ;;
print)
    number=0
    while [ "$number" -lt "$argument" ]; do
        echo "line $number $said" >&2
        number=$((number + 1))
    done ;;
litter) head -c 10000 /dev/zero > "litter-$token" ;;
mark) echo "$token" >> "$MARKS" ;;
daemon) setsid sleep 3600 </dev/null >/dev/null 2>&1 & ;;
crash)
    guard=$(sed -n 's/^PPid:[^0-9]*//p' "/proc/$PPID/status")
    # When it is dead the spawner has taken its place.
    case $argument-$(cat "/proc/$guard/comm") in
    guard-tinyfaas-guard) kill -9 "$guard" ;;
    stopped-tinyfaas-guard) kill -STOP "$guard" ;;
    esac
    kill -9 "$PPID" ;;
hog) sleep "$argument" ;;
esac
printf '%s' "$said"
"""

_BROKEN = {
    ("python3", "syntax"): {"fn.py": "def fn(input:\n"},
    ("python3", "exits"): {"fn.py": "import os\nos._exit(7)\n"},
    ("python3", "raises"): {"fn.py": "raise RuntimeError('not today')\n"},
    ("python3", "hangs"): {
        "fn.py": "import time\ntime.sleep(600)\n",
        "tinyfaas.toml": "start_timeout = '400ms'\n",
    },
    ("nodejs", "syntax"): folders.node_module("module.exports = (\n"),
    ("nodejs", "exits"): folders.node_module("process.exit(7)\n"),
    ("nodejs", "raises"): folders.node_module("throw new Error('not today')\n"),
    ("nodejs", "hangs"): {
        **folders.node_module("for (;;);\n"),
        "tinyfaas.toml": "start_timeout = '400ms'\n",
    },
}
# Ways to be broken that some environment knows.
BROKEN = ("syntax", "exits", "raises", "hangs")


def archive(environment, version):
    """The zip of a function that works."""
    if environment == "python3":
        return folders.zip_of({"fn.py": _PYTHON.replace("VERSION", version)})
    if environment == "nodejs":
        return folders.zip_of(folders.node_module(_NODE.replace("VERSION", version)))
    return folders.zip_of({"fn.sh": folders.File(_SHELL.replace("VERSION", version), 0o755)})


def broken_archive(environment, how):
    """The zip of a function that cannot be started."""
    return folders.zip_of(_BROKEN[environment, how])


def body(kind, argument, token):
    """What a function is sent to do something."""
    rest = b"y" * int(argument) if kind == "take" else b""
    return f"{kind} {argument} {token}\n".encode() + rest


def reply(kind, argument, said):
    """What a function replies whose answer begins with this."""
    if kind == "take":
        return f"{said} {argument}".encode()
    if kind == "give":
        return said.encode() + b"\n" + b"x" * int(argument)
    if kind == "stream":
        return "".join([said + "\n", *(f"piece {n}\n" for n in range(int(argument)))]).encode()
    return said.encode()
