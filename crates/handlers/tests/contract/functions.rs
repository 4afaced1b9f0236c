//! The functions that the contract deploys, in each environment.

use std::fmt::Write;
use std::path::Path;

use tinyfaas_model::Runtime;

/// What a function does.
#[derive(Debug, Clone, Copy)]
pub(super) enum Behaviour {
    /// Replies with its body.
    Echo,
    /// Takes the path of a file: prints `begun PATH`, waits until the file is
    /// there, replies with the body. `never` does not end, whatever it is told.
    Slow,
    /// Replies with its variables, a line each.
    Environment,
    /// `crash`: prints last words and ends its worker. Otherwise an echo.
    Crash,
    /// Counts its calls in a file of its folder.
    Counter,
    /// Puts a process into the background that lets go of everything, and
    /// replies `started`. `hang`: prints `hanging` and does not end.
    Daemon,
    /// Cannot be loaded.
    FailsToLoad,
    /// Prints `loading` and is never ready.
    HangsWhileLoading,
}

type Files = Vec<(&'static str, &'static str)>;

/// The files of a function that behaves so.
pub(super) fn files(runtime: Runtime, behaviour: Behaviour) -> Files {
    match runtime {
        Runtime::Python3 => vec![("fn.py", python(behaviour))],
        Runtime::Nodejs => vec![
            ("package.json", r#"{"name": "fn", "version": "1.0.0", "main": "index.js"}"#),
            ("index.js", node(behaviour)),
        ],
        Runtime::Binary => vec![("fn.sh", shell(behaviour))],
    }
}

/// What [`Behaviour::FailsToLoad`] must be told as.
pub(super) fn load_failure(runtime: Runtime) -> &'static [&'static str] {
    match runtime {
        Runtime::Python3 | Runtime::Nodejs => &["no luck", "before the end"],
        Runtime::Binary => &["/no/such/shell"],
    }
}

fn python(behaviour: Behaviour) -> &'static str {
    match behaviour {
        Behaviour::Echo => "def fn(input, headers):\n    return input\n",
        Behaviour::Slow => {
            "import os, time\ndef fn(input, headers):\n    print('begun', input)\n\
             \x20   while not os.path.exists(input):\n        time.sleep(0.005)\n\
             \x20   return input\n"
        }
        Behaviour::Environment => {
            "import os\ndef fn(input):\n\
             \x20   return '\\n'.join(f'{k}={v}' for k, v in os.environ.items())\n"
        }
        Behaviour::Crash => {
            "import os, signal, sys\ndef fn(input, headers):\n    if input != 'crash':\n\
             \x20       return input\n    print('last words on stdout', flush=True)\n\
             \x20   print('last words on stderr', file=sys.stderr, flush=True)\n\
             \x20   os.kill(os.getpid(), signal.SIGKILL)\n"
        }
        Behaviour::Counter => {
            "def fn(input, headers):\n    with open('count', 'a+') as f:\n        f.write('x')\n\
             \x20       f.seek(0)\n        return str(len(f.read()))\n"
        }
        Behaviour::Daemon => {
            "import subprocess, time\ndef fn(input, headers):\n    if input == 'hang':\n\
             \x20       print('hanging')\n        while True:\n            time.sleep(1)\n\
             \x20   null = subprocess.DEVNULL\n\
             \x20   subprocess.Popen(['sleep', '1000'], start_new_session=True,\n\
             \x20       stdin=null, stdout=null, stderr=null)\n    return 'started'\n"
        }
        Behaviour::FailsToLoad => "print('before the end')\nraise RuntimeError('no luck')\n",
        Behaviour::HangsWhileLoading => {
            "import time\nprint('loading')\ntime.sleep(1000)\ndef fn(input):\n    pass\n"
        }
    }
}

fn node(behaviour: Behaviour) -> &'static str {
    match behaviour {
        Behaviour::Echo => "module.exports = (req, res) => res.send(req.body)\n",
        Behaviour::Slow => {
            "module.exports = (req, res) => {\n  console.log('begun', req.body)\n\
             \x20 const look = () => require('fs').existsSync(req.body)\n\
             \x20   ? res.send(req.body) : setTimeout(look, 5)\n\
             \x20 if (req.body !== 'never') look()\n}\n"
        }
        Behaviour::Environment => {
            "module.exports = (req, res) => res.send(\n\
             \x20 Object.entries(process.env).map(([k, v]) => `${k}=${v}`).join('\\n'))\n"
        }
        Behaviour::Crash => {
            "module.exports = (req, res) => {\n  if (req.body !== 'crash') return res.send(req.body)\n\
             \x20 console.log('last words on stdout')\n  console.error('last words on stderr')\n\
             \x20 process.kill(process.pid, 'SIGKILL')\n}\n"
        }
        Behaviour::Counter => {
            "const fs = require('fs')\nmodule.exports = (req, res) => {\n\
             \x20 fs.appendFileSync('count', 'x')\n\
             \x20 res.send(String(fs.readFileSync('count').length))\n}\n"
        }
        Behaviour::Daemon => {
            "const { spawn } = require('child_process')\nmodule.exports = (req, res) => {\n\
             \x20 if (req.body === 'hang') return console.log('hanging')\n\
             \x20 spawn('sleep', ['1000'], { detached: true, stdio: 'ignore' }).unref()\n\
             \x20 res.send('started')\n}\n"
        }
        Behaviour::FailsToLoad => "console.log('before the end')\nthrow new Error('no luck')\n",
        Behaviour::HangsWhileLoading => "console.log('loading')\nwhile (true);\n",
    }
}

fn shell(behaviour: Behaviour) -> &'static str {
    match behaviour {
        Behaviour::Echo => "#!/bin/sh\nexec cat\n",
        Behaviour::Slow => {
            "#!/bin/sh\ninput=$(cat)\necho \"begun $input\" >&2\n\
             while ! [ -e \"$input\" ]; do sleep 0.02; done\nprintf %s \"$input\"\n"
        }
        Behaviour::Environment => "#!/bin/sh\nexec env\n",
        Behaviour::Crash => {
            "#!/bin/sh\ninput=$(cat)\nif [ \"$input\" != crash ]; then\n\
             \x20 printf %s \"$input\"\n  exit\nfi\n\
             echo 'last words on stdout' >&2\necho 'last words on stderr' >&2\nkill -9 $PPID\n"
        }
        Behaviour::Counter => "printf x >>count\nwc -c <count\n",
        Behaviour::Daemon => {
            "#!/bin/sh\nif [ \"$(cat)\" = hang ]; then\n  echo hanging >&2\n  sleep 1000\nfi\n\
             setsid sleep 1000 </dev/null >/dev/null 2>&1 &\necho started\n"
        }
        Behaviour::FailsToLoad => "#!/no/such/shell\n",
        Behaviour::HangsWhileLoading => "",
    }
}

/// A function whose dependency cannot be installed, at once and without a
/// network.
pub(super) fn with_missing_dependency(runtime: Runtime) -> Option<Files> {
    let mut all = files(runtime, Behaviour::Echo);
    match runtime {
        Runtime::Python3 => all.push(("requirements.txt", "./not-there.whl\n")),
        Runtime::Nodejs => {
            all[0].1 = r#"{"name": "fn", "dependencies": {"not-there": "file:./not-there.tgz"}}"#;
        }
        Runtime::Binary => return None,
    }
    Some(all)
}

/// A function that replies with what a package says that lies in its folder.
pub(super) fn with_vendored_dependency(runtime: Runtime) -> Option<Files> {
    match runtime {
        Runtime::Python3 => Some(vec![
            ("fn.py", "import vendored_lab\ndef fn(input):\n    return vendored_lab.word\n"),
            ("requirements.txt", "# ours\nvendored-lab==1.0\n"),
        ]),
        Runtime::Nodejs => Some(vec![
            ("index.js", "const word = require('lab')\nmodule.exports = (q, r) => r.send(word)\n"),
            ("package.json", r#"{"name": "fn", "dependencies": {"lab": "file:./lab"}}"#),
            ("lab/package.json", r#"{"name": "lab", "version": "1.0.0"}"#),
            ("lab/index.js", "module.exports = 'vendored'\n"),
        ]),
        Runtime::Binary => None,
    }
}

/// Puts a wheel into the folder: a zip archive with stored members.
pub(super) fn add_wheel(folder: &Path) {
    let info = "vendored_lab-1.0.dist-info";
    let members = [
        ("vendored_lab.py".to_owned(), "word = 'vendored'\n".to_owned()),
        (
            format!("{info}/METADATA"),
            "Metadata-Version: 2.1\nName: vendored-lab\nVersion: 1.0\n".to_owned(),
        ),
        (
            format!("{info}/WHEEL"),
            "Wheel-Version: 1.0\nGenerator: lab\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
                .to_owned(),
        ),
    ];
    let mut record = String::new();
    for (name, _) in &members {
        writeln!(record, "{name},,").unwrap();
    }
    writeln!(record, "{info}/RECORD,,").unwrap();
    let record = (format!("{info}/RECORD"), record);
    let zip = stored_zip(members.iter().chain([&record]));
    std::fs::write(folder.join("vendored_lab-1.0-py3-none-any.whl"), zip).unwrap();
}

fn stored_zip<'a>(members: impl Iterator<Item = &'a (String, String)>) -> Vec<u8> {
    let (mut zip, mut directory, mut count) = (Vec::new(), Vec::new(), 0_u16);
    for (name, text) in members {
        let offset = u32::try_from(zip.len()).unwrap();
        let mut fields = Vec::new();
        // Version, flags, method, time, date: none of them matters here.
        fields.extend_from_slice(&[20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0]);
        fields.extend_from_slice(&crc32(text.as_bytes()).to_le_bytes());
        let size = u32::try_from(text.len()).unwrap().to_le_bytes();
        fields.extend_from_slice(&size);
        fields.extend_from_slice(&size);
        fields.extend_from_slice(&u16::try_from(name.len()).unwrap().to_le_bytes());
        fields.extend_from_slice(&[0, 0]);
        zip.extend_from_slice(b"PK\x03\x04");
        zip.extend_from_slice(&fields);
        zip.extend_from_slice(name.as_bytes());
        zip.extend_from_slice(text.as_bytes());
        directory.extend_from_slice(b"PK\x01\x02\x14\0");
        directory.extend_from_slice(&fields);
        directory.extend_from_slice(&[0; 10]);
        directory.extend_from_slice(&offset.to_le_bytes());
        directory.extend_from_slice(name.as_bytes());
        count += 1;
    }
    let start = u32::try_from(zip.len()).unwrap();
    zip.extend_from_slice(&directory);
    zip.extend_from_slice(b"PK\x05\x06\0\0\0\0");
    zip.extend_from_slice(&count.to_le_bytes());
    zip.extend_from_slice(&count.to_le_bytes());
    zip.extend_from_slice(&u32::try_from(directory.len()).unwrap().to_le_bytes());
    zip.extend_from_slice(&start.to_le_bytes());
    zip.extend_from_slice(&[0, 0]);
    zip
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 }
        })
    })
}
