"""Hostile apps, as text. Each gets `ARENA`: where everything is that it should not get at.

`leak` is given whatever was read; it counts what holds a secret. An app that only looks ends with
`FOUND 0`, which also shows that it ran to its end.
"""

PRELUDE = r"""
import base64, ctypes, errno, json, os, pathlib, signal, socket, stat, subprocess, sys, threading
import time
from chalice import Chalice

app = Chalice(app_name='canary')
ARENA = json.loads(os.environ['ARENA'])
# How every secret of this arena begins, written so that the app itself does not hold it.
MARK = ARENA['backwards'][::-1].encode()
found = []
libc = ctypes.CDLL(None, use_errno=True)


def leak(where, data):
    if isinstance(data, str):
        data = data.encode('utf-8', 'surrogateescape')
    if MARK in data:
        found.append(where)
        at = data.index(MARK)
        print('LEAK', where, data[at:at + 60], base64.b64encode(data[at:at + 60]))


def attempt(where, act):
    try:
        got = act()
    except BaseException as error:
        if isinstance(error, (SystemExit, KeyboardInterrupt)):
            raise
        return None
    if isinstance(got, (bytes, str)):
        leak(where, got)
    return got


def pids():
    mine = os.getpid()
    highest = mine + 50
    return [p for p in range(1, highest) if p != mine and os.path.exists('/proc/%d' % p)]


def done():
    print('FOUND', len(found), found[:20])


@app.route('/')
def index():
    return {}
"""

PROBES = {
    "other processes": r"""
def content(path):
    # Not pipes: that would wait for ever, or take what the tests say to each other.
    if stat.S_ISREG(os.stat(path).st_mode):
        return open(path, 'rb').read(65536)
for pid in ['self', 'thread-self', *pids()]:
    for name in ('environ', 'cmdline', 'maps', 'mem', 'stack', 'auxv', 'io', 'cwd/x', 'root/x'):
        attempt('%s/%s' % (pid, name), lambda: open('/proc/%s/%s' % (pid, name), 'rb').read(65536))
    for fd in range(4 if pid in ('self', 'thread-self') else 0, 40):
        attempt('%s/fd' % pid, lambda: content('/proc/%s/fd/%d' % (pid, fd)))
    attempt('%s/task' % pid, lambda: open('/proc/%s/task/%s/environ' % (pid, pid), 'rb').read())
    def memory():
        for line in open('/proc/%s/maps' % pid):
            start, end = (int(part, 16) for part in line.split()[0].split('-'))
            with open('/proc/%s/mem' % pid, 'rb') as mem:
                mem.seek(start)
                leak('mem %s' % pid, mem.read(min(end - start, 1 << 22)))
    if pid not in ('self', 'thread-self'):
        attempt('mem', memory)
leak('own environment', str(dict(os.environ)))
done()
""",
    "tracing and signals": r"""
SYSCALLS = {'x86_64': (101, 310), 'aarch64': (117, 270)}[os.uname().machine]
for pid in pids():
    for call in (lambda: libc.ptrace(16, pid, 0, 0), lambda: libc.ptrace(0x4206, pid, 0, 0)):
        if call() == 0:
            found.append('ptrace %d' % pid)
    buffer = ctypes.create_string_buffer(64)
    local = (ctypes.c_void_p * 2)(ctypes.addressof(buffer), 64)
    remote = (ctypes.c_void_p * 2)(0x400000, 64)
    if libc.process_vm_readv(pid, local, 1, remote, 1, 0) > 0:
        found.append('process_vm_readv %d' % pid)
    limit = (ctypes.c_ulong * 2)(0, 0)
    if libc.prlimit(pid, 0, limit, None) == 0:
        found.append('prlimit %d' % pid)
    try:
        os.kill(pid, 0)
        found.append('kill %d' % pid)
    except OSError:
        pass
for number in (signal.SIGTERM, signal.SIGKILL):
    for target in (os.getppid(), -1):
        try:
            os.kill(target, number)
        except OSError:
            pass
done()
""",
    "the network": r"""
def connect(family, kind, address):
    with socket.socket(family, kind) as made:
        made.settimeout(2)
        made.connect(address)
        made.send(b'hello')
        found.append(str(address))
for address in (('127.0.0.1', ARENA['tcp']), ('169.254.169.254', 80), ('localhost', ARENA['tcp'])):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        attempt('inet', lambda: connect(socket.AF_INET, kind, address))
attempt('udp', lambda: connect(socket.AF_INET, socket.SOCK_DGRAM, ('127.0.0.1', ARENA['udp'])))
attempt('inet6', lambda: connect(socket.AF_INET6, socket.SOCK_STREAM, ('::1', ARENA['tcp'])))
for path in (ARENA['unix'], '/var/run/docker.sock', '/run/docker.sock', '\0' + ARENA['abstract']):
    attempt('unix', lambda: connect(socket.AF_UNIX, socket.SOCK_STREAM, path))
for family in (0, 1, 2, 10, 16, 17, 38, 40, 44):
    for kind in (1, 2, 3, 5):
        if libc.socket(family, kind, 0) >= 0:
            found.append('socket %d %d' % (family, kind))
    pair = (ctypes.c_int * 2)()
    if family != 1 and libc.socketpair(family, 1, 0, pair) == 0:
        found.append('socketpair %d' % family)
NUMBER = {'x86_64': 41, 'aarch64': 198}[os.uname().machine]
if libc.syscall(NUMBER, 2, 1, 0) >= 0:
    found.append('raw socket call')
ring = ctypes.create_string_buffer(256)
if libc.syscall(425, 8, ring) >= 0:
    found.append('io_uring')
shell = 'exec 3<>/dev/tcp/127.0.0.1/%d && echo hello >&3 && echo %s'
shell %= (ARENA['tcp'], MARK.decode())
attempt('bash', lambda: subprocess.run(['bash', '-c', shell], capture_output=True).stdout)
attempt('curl', lambda: subprocess.run(
    ['curl', '-s', '--unix-socket', ARENA['unix'], 'http://x/'], capture_output=True).stdout)
# One pair of connected sockets is harmless, and event loops need it.
left, right = socket.socketpair()
left.send(b'x'); assert right.recv(1) == b'x'
done()
""",
    "files": r"""
tops = ['/', '/root', '/home', '/tmp', '/var', '/run', '/etc', '/opt', '/srv', '/mnt', '/dev/shm']
tops += [ARENA['root'], os.path.dirname(os.getcwd()), os.path.dirname(os.path.dirname(os.getcwd()))]
count = 0
for top in tops + ARENA['secret_files']:
    for folder, folders, files in os.walk(top):
        if folder.startswith(('/usr', '/proc', '/sys', '/lib')) or count > 20000:
            folders[:] = []
            continue
        for name in files:
            count += 1
            path = os.path.join(folder, name)
            attempt(path, lambda: open(path, 'rb').read(100000))
for path in ARENA['secret_files'] + ARENA['command_files'] + [ARENA['project'] + '/.git/config']:
    attempt(path, lambda: open(path, 'rb').read())
    name = os.path.join(os.environ['TMPDIR'], 'x%d' % len(path))
    attempt('link', lambda: (os.link(path, name), open(name, 'rb').read())[1])
    attempt('symlink', lambda: (os.symlink(path, name + 's'), open(name + 's', 'rb').read())[1])
    attempt('rename', lambda: (os.rename(path, name + 'r'), open(name + 'r', 'rb').read())[1])
    attempt('cat', lambda: subprocess.run(['cat', path], capture_output=True).stdout)
    attempt('relative', lambda: open(os.path.relpath(path), 'rb').read())
for fd in range(0, 2000):
    if fd not in (0, 1, 2, 3):
        attempt('fd %d' % fd, lambda: os.pread(fd, 65536, 0))
attempt('.git', lambda: open('.git/config', 'rb').read())
done()
""",
    "writes": r"""
EVIL = 'EVIL' + '-MARK'
places = ARENA['command_files'] + ARENA['secret_files'] + [
    ARENA['root'] + '/new', ARENA['project'] + '/app.py', ARENA['project'] + '/new.py',
    ARENA['open_folder'] + '/new', '/tmp/' + ARENA['token'], '/var/tmp/' + ARENA['token'],
    '/dev/shm/' + ARENA['token'], os.getcwd() + '/app.py', os.getcwd() + '/new.py', sys.executable,
    os.path.dirname(os.getcwd()) + '/new', os.path.dirname(os.getcwd()) + '/child/x.py',
]
for place in places:
    for mode in ('a', 'w', 'r+'):
        def write():
            with open(place, mode) as file:
                file.write(EVIL)
            found.append(place)
        attempt('write', write)
    for act in (
        lambda: os.truncate(place, 0), lambda: os.unlink(place), lambda: os.mkfifo(place + 'f'),
        lambda: os.rename(place, place + 'x'), lambda: os.mkdir(place + 'd'),
        lambda: os.symlink('/', place + 's'),
    ):
        def change():
            act()
            found.append('changed ' + place)
        attempt('change', change)
with open(os.path.join(os.environ['TMPDIR'], 'mine'), 'w') as mine:
    mine.write('this is allowed')
done()
""",
    "privileges": r"""
status = dict(
    line.split(':', 1) for line in open('/proc/self/status').read().splitlines() if ':' in line)
for name in ('Uid', 'Gid', 'Groups', 'CapEff', 'CapPrm', 'CapBnd', 'NoNewPrivs', 'Seccomp'):
    print('STATUS', name, ' '.join(status[name].split()))
for act in (
    lambda: os.setuid(0), lambda: os.setresuid(0, 0, 0), lambda: os.setgroups([0]),
    lambda: os.setgid(0), lambda: os.chroot('/tmp'), lambda: os.mknod(os.environ['TMPDIR'] + '/n'
    , 0o666 | 0o060000, os.makedev(8, 0)), lambda: os.chown(os.environ['TMPDIR'], 0, -1),
    lambda: os.unshare(0x10000000) if hasattr(os, 'unshare') else 1 / 0,
):
    def gained():
        act()
        found.append('gained')
    attempt('gain', gained)
for name, arguments in (
    ('unshare', (0x10000000,)), ('unshare', (0x00020000,)), ('setns', (0, 0)),
    ('mount', (b'none', b'/tmp', b'tmpfs', 0, 0)), ('umount', (b'/',)),
    ('pivot_root', (b'/', b'/')), ('reboot', (0x1234567,)), ('sethostname', (b'x', 1)),
):
    if getattr(libc, name)(*arguments) == 0:
        found.append(name)
import resource
if libc.ptrace(0, 0, 0, 0) == 0:
    found.append('traceme')
for name in ('RLIMIT_NPROC', 'RLIMIT_NOFILE', 'RLIMIT_FSIZE', 'RLIMIT_CPU', 'RLIMIT_AS'):
    kind = getattr(resource, name)
    try:
        resource.setrlimit(kind, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        found.append(name)
    except (ValueError, OSError):
        pass
assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
done()
""",
}

FORGERIES = {
    "an empty object, then gone": "os.write(3, b'{}'); os._exit(0)",
    "nothing, then gone": "os._exit(0)",
    "text before the true answer": "os.write(3, b'hello')",
    "another role, through the loader": r"""
load = sys.modules['chalice_ci_child.load']
dump = load._dump
load._dump = lambda document: dump(document).replace(b'lambda.amazonaws.com', b'evil.example')
""",
    "another app's function, through the loader": r"""
load = sys.modules['chalice_ci_child.load']
dump = load._dump
load._dump = lambda document: dump(document).replace(b'canary-dev', b'billing-prod')
""",
    "with the stolen nonce": r"""
frame = sys._getframe()
while 'request' not in frame.f_locals:
    frame = frame.f_back
nonce = frame.f_locals['request']['answer']['nonce']
os.write(3, nonce.encode() + b'\n{"format": 1, "graph": {"root": 0, "nodes": []}}')
os._exit(0)
""",
    "written by a thread for ever": r"""
written = threading.Event()
def write():
    while True:
        os.write(3, b'x' * 1000)
        written.set()
threading.Thread(target=write, daemon=True).start()
# On a busy machine the thread may not run before the answer is complete.
written.wait()
""",
    "a deep one": r"""
load = sys.modules['chalice_ci_child.load']
load._dump = lambda document: b'[' * 1000000
""",
    "of a policy that is not in the repository": r"""
load = sys.modules['chalice_ci_child.load']
encode = load.encode
def other(application, project):
    document = encode(application, project)
    for node in document['nodes']:
        if node['type'] == 'FileBasedIAMPolicy':
            node['fields']['document'] = {'d': [['Statement', '*']]}
    return document
load.encode = other
""",
}

BOMBS = {
    "forks": "while True:\n    try:\n        os.fork()\n    except OSError:\n        pass\n",
    "forks that run away": r"""
if os.fork() == 0:
    os.setsid()
    while True:
        try:
            if os.fork() != 0:
                os._exit(0)
        except OSError:
            time.sleep(0.001)
""",
    "threads": r"""
while True:
    try:
        threading.Thread(target=time.sleep, args=(60,)).start()
    except RuntimeError:
        pass
""",
    "memory": "x = []\nwhile True:\n    x.append(bytearray(50_000_000))\n",
    "memory of many": r"""
for number in range(12):
    if os.fork() == 0:
        kept = bytearray(os.urandom(1 << 20) * 100)
        time.sleep(60)
time.sleep(60)
""",
    "a loop": "while True:\n    pass\n",
    "a sleep that swallows": r"""
while True:
    try:
        time.sleep(60)
    except BaseException:
        pass
""",
    "a stop": "os.kill(os.getpid(), signal.SIGSTOP)",
    "closed descriptors": "os.closerange(0, 100)\nwhile True:\n    time.sleep(1)\n",
    "recursion": "sys.setrecursionlimit(10**9)\ndef f():\n    f()\nf()\n",
    "output": "while True:\n    os.write(1, b'::error::x' * 1000)\n",
    "an answer": "while True:\n    os.write(3, b'x' * 60000)\n",
    "routes": r"""
for number in range(60_000):
    app.route('/%d' % number, methods=['GET'])(index)
""",
    "files": r"""
for number in range(10**6):
    open(os.path.join(os.environ['TMPDIR'], str(number)), 'w').close()
""",
    "a file": r"""
with open(os.path.join(os.environ['TMPDIR'], 'x'), 'wb') as file:
    while True:
        file.write(bytes(1 << 20))
""",
    "many large files": r"""
number = 0
while True:
    number += 1
    with open(os.path.join(os.environ['TMPDIR'], str(number)), 'wb') as file:
        file.write(bytes(15 << 20))
""",
    "deep folders": r"""
os.chdir(os.environ['TMPDIR'])
for number in range(3000):
    os.mkdir('d'); os.chdir('d')
os.chmod('..', 0)
""",
    "a literal": "eval('[' * 10**6)",
    "another architecture": "libc.syscall(0x40000000 | 41, 2, 1, 0)",
}

DAEMON = r"""
script = (
    "import os, signal, sys, time\n"
    "for n in (1, 2, 15): signal.signal(n, signal.SIG_IGN)\n"
    "for path in sys.argv[2:]:\n"
    "    pass\n"
    "end = time.time() + 60\n"
    "while time.time() < end:\n"
    "    for path in sys.argv[2:]:\n"
    "        try:\n"
    "            open(path, 'a').write('EVIL' + '-MARK')\n"
    "        except OSError: pass\n"
    "    time.sleep(0.05)\n"
)
for _ in range(3):
    between = os.fork()
    if between == 0:
        os.setsid()
        libc.prctl(36, 1, 0, 0, 0)
        if os.fork() == 0:
            os.execv(sys.executable, [sys.executable, '-I', '-S', '-c', script,
                     'daemon-' + ARENA['token'], *ARENA['command_files'],
                     os.environ['TMPDIR'] + '/still-there'])
        os._exit(0)
    os.waitpid(between, 0)
time.sleep(0.3)
"""
