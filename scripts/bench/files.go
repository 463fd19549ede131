package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"ztm/scripts/process"
)

// rsync is the name of its rows, where it and an SSH server are installed.
const rsync = "rsync"

// files measures the cloud beside rsync over SSH and syncthing: one large file, the same with one byte changed, and ten thousand small ones.
//
//	exit: ztm cloud upload -> entrance: ztm cloud download        what is timed is the download: complete, checked, on the disk;
//	                                                              in a row of its own the upload: copied in and published
//	rsync -a source/ target/ over ssh -> sshd on this machine
func (r *run) files(ctx context.Context, _ []*path) error {
	p, err := r.ztmPath(ctx, ztm, r.ztm, line{})
	if err != nil {
		return err
	}
	ways := []*way{{path: p, copy: func(what string) error { return r.cloud(ctx, p, what) }, publish: func(what string) error { return r.publish(ctx, p, what) },
		again: func(what string) error { return r.erase(ctx, p, what) }}}
	for _, role := range []string{"entrance", "exit"} {
		if err := p.command(ctx, "cloud", "config", "--local-dir", filepath.Join(p.dir, role+"-files"), "--data", filepath.Join(p.dir, role)); err != nil {
			return err
		}
	}
	ssh, err := r.rsyncWay(ctx, p.dir)
	if err != nil {
		fmt.Println("rsync is left out:", err)
	} else {
		ways = append(ways, ssh)
	}
	synced, err := r.syncthingWay(ctx, p.dir)
	if err != nil {
		synced = &way{path: &path{name: syncthing}, copy: func(string) error { return err }}
	}
	ways = append(append(ways, r.copyWays(ctx, p, ssh)...), synced)
	before := resident(p)
	for _, c := range []struct {
		name, goal, dir string
		make            func(dir string) error
	}{
		{"one file of 10 MB", "", "ten", func(dir string) error { return randomFile(filepath.Join(dir, "ten"), 10*mb) }},
		{tenThousand, "twice the time of 10 MB and 10 s", "many", manyFiles},
		{"one large file", "that of a tunnel less 5 %", "large", func(dir string) error { return randomFile(filepath.Join(dir, "large"), r.scale(1<<30, 64<<20)) }},
		{oneChanged, "", "large", func(dir string) error { return changeByte(filepath.Join(dir, "large")) }},
	} {
		// Each has its own name in the cloud: a download of one of them asks for nothing of the others.
		dir := filepath.Join(p.dir, c.dir)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		if err := c.make(dir); err != nil {
			return err
		}
		of, rounds := ways, 1
		if strings.HasPrefix(c.name, "one") && c.name != oneChanged {
			of, rounds = append([]*way{tunnelWay(ctx, p), r.tunnelFileWay(ctx, p)}, ways...), r.rounds
		}
		copied, published := times(of, dir, rounds)
		r.add("files: "+c.name, "ms", c.goal, copied)
		r.add("files: "+c.name+", published before that", "ms", "", published)
		if c.name == tenThousand {
			r.add("files: RSS with these, both ends", "MB", "", atRest(p, synced.path))
		}
	}
	r.add("files: RSS grown by all that, both agents", "MB", "", ours(float64(resident(p)-before)/mb))
	return nil
}

const (
	tenThousand = "10,000 files of 1 KB"
	oneChanged  = "one byte of it changed"
)

// atRest is what the processes at both ends have in memory.
func atRest(paths ...*path) figures {
	out := newFigures()
	for _, p := range paths {
		if len(p.procs) > 0 {
			out.keep(p, float64(resident(p))/mb)
		}
	}
	return out
}

// way is a way to copy what is in a directory.
type way struct {
	*path
	copy    func(dir string) error
	prepare func(dir string) error // not timed; nil: nothing
	publish func(dir string) error // timed by itself; nil: there is no such step
	again   func(dir string) error // takes the copy away, not timed; nil: it stays, and there is one round
}

// times measures the ways in turns, and how long publishing took: the files are there afterwards. What has one round has the last, as
// it may be busy for longer than it seems.
func times(ways []*way, dir string, rounds int) (out, published figures) {
	out, published = newFigures(), newFigures()
	for round := range rounds {
		for _, w := range ways {
			if out.has(w.path) || w.again == nil && round < rounds-1 {
				continue
			}
			before, took, err := w.time(dir, round > 0 && w.again != nil)
			if err != nil {
				out.fail(w.path, err)
				continue
			}
			out.keep(w.path, milliseconds(took))
			if w.publish != nil {
				published.keep(w.path, milliseconds(before))
			}
		}
	}
	return out, published
}

// time measures a way once, and publishing before it.
func (w *way) time(dir string, again bool) (published, took time.Duration, err error) {
	if again {
		if err := w.again(dir); err != nil {
			return 0, 0, err
		}
	}
	if w.prepare != nil {
		if err := w.prepare(dir); err != nil {
			return 0, 0, err
		}
	}
	began := time.Now()
	if w.publish != nil {
		if err := w.publish(dir); err != nil {
			return 0, 0, err
		}
	}
	published = time.Since(began)
	began = time.Now()
	err = w.copy(dir)
	return published, time.Since(began), err
}

// erase takes away what was downloaded.
func (r *run) erase(ctx context.Context, p *path, dir string) error {
	return p.command(ctx, "cloud", "erase", "/users/root/"+filepath.Base(dir), "--force", "--data", filepath.Join(p.dir, "entrance"))
}

func (r *run) publish(ctx context.Context, p *path, dir string) error {
	return p.command(ctx, "cloud", "upload", dir, "--data", filepath.Join(p.dir, "exit"))
}

func (r *run) cloud(ctx context.Context, p *path, dir string) error {
	return p.command(ctx, "cloud", "download", "/users/root/"+filepath.Base(dir), "--data", filepath.Join(p.dir, "entrance"))
}

// rsyncWay starts an SSH server and is rsync through it.
func (r *run) rsyncWay(ctx context.Context, dir string) (*way, error) {
	for _, program := range []string{"rsync", "ssh", "ssh-keygen"} {
		if _, err := exec.LookPath(program); err != nil {
			return nil, err
		}
	}
	sshd, err := exec.LookPath("sshd")
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // where the server locks its children in
		return nil, err
	}
	in := func(f string) string { return filepath.Join(dir, f) }
	for _, key := range []string{"hostkey", "key"} {
		if out, err := exec.CommandContext(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", in(key)).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("ssh-keygen: %w: %s", err, out)
		}
	}
	host, port, _ := net.SplitHostPort(process.FreeAddress())
	p := &path{name: rsync, address: net.JoinHostPort(host, port), procs: map[string]*process.Process{}, dir: dir}
	p.procs["sshd"], err = r.Start("sshd", sshd, "-D", "-e", "-f", "/dev/null", "-h", in("hostkey"), "-o", "ListenAddress="+host, "-o", "Port="+port,
		"-o", "AuthorizedKeysFile="+in("key.pub"), "-o", "StrictModes=no", "-o", "UsePAM=no", "-o", "PidFile=none", "-o", "PermitRootLogin=yes", "-o", "Subsystem=sftp internal-sftp")
	if err != nil {
		return nil, err
	}
	if err := process.Until(ctx, "sshd", 10*time.Second, listens(net.JoinHostPort(host, port))); err != nil {
		return nil, err
	}
	shell := fmt.Sprintf("ssh -p %s -i %s -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR", port, in("key"))
	return &way{path: p, again: r.fresh(dir, "rsync-files"), copy: func(from string) error {
		out, err := exec.CommandContext(ctx, "rsync", "-a", "--inplace", "--fsync", "-e", shell, from, host+":"+in("rsync-files/")).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("rsync: %w: %s", err, out)
		}
		return err
	}}, nil
}

func randomFile(name string, size int64) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, mb)
	for ; size > 0; size -= mb {
		rand.Read(b)
		if _, err := f.Write(b[:min(mb, size)]); err != nil {
			return err
		}
	}
	return nil
}

func manyFiles(dir string) error {
	b := make([]byte, 1024)
	for i := range 10_000 {
		in := filepath.Join(dir, fmt.Sprint(i/500))
		if err := os.MkdirAll(in, 0o700); err != nil {
			return err
		}
		rand.Read(b)
		if err := os.WriteFile(filepath.Join(in, fmt.Sprint(i)), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// changeByte changes one byte in the middle of a file.
func changeByte(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	var b [1]byte
	if _, err := f.ReadAt(b[:], st.Size()/2); err != nil {
		return err
	}
	b[0] ^= 1
	_, err = f.WriteAt(b[:], st.Size()/2)
	return err
}
