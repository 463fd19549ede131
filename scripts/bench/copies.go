package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"ztm/scripts/bench/load"
)

// The copies beside the cloud's: `ztm file cp`, and scp through the same mesh.
const (
	fileCp     = "ztm file cp"
	scpThrough = "scp through ztm"
	inTunnel   = "bytes in a tunnel"
	fileTunnel = "a file in a tunnel"
)

// tunnelWay moves as many bytes through a tunnel of the same mesh, and writes them nowhere: what a copy of large files is compared with.
func tunnelWay(ctx context.Context, p *path) *way {
	return &way{path: &path{name: inTunnel, procs: p.procs}, copy: func(dir string) error {
		var bytes int64
		err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			if err == nil {
				bytes += info.Size()
			}
			return err
		})
		if err == nil {
			_, err = load.Throughput(ctx, p.address, 1, bytes, false)
		}
		return err
	}, again: nothing}
}

// nothing is what has to be taken away after what leaves nothing, or what begins by that.
func nothing(string) error { return nil }

// tunnelFileWay copies the files of a directory through a tunnel of the same mesh, one after the other: a program reads each at the exit and
// another one writes it at the entrance. It checks nothing and keeps no mode and no time.
func (r *run) tunnelFileWay(ctx context.Context, p *path) *way {
	return &way{path: &path{name: fileTunnel, procs: p.procs, dir: p.dir}, copy: func(dir string) error {
		to := filepath.Join(p.dir, "tunnelled")
		if err := os.MkdirAll(to, 0o700); err != nil {
			return err
		}
		return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			if name, err = filepath.Rel(r.Dir, name); err != nil {
				return err
			}
			return load.File(ctx, p.address, name, filepath.Join(to, d.Name()), info.Size())
		})
	}, prepare: r.fresh(p.dir, "tunnelled"), again: nothing}
}

// copyWays copy what is at the exit to the entrance: by the file app, and by scp through `ztm nc` to an SSH server beside the exit.
// All of them are sealed from end to end by ztm, and scp seals once more.
func (r *run) copyWays(ctx context.Context, p *path, ssh *way) []*way {
	data := filepath.Join(p.dir, "entrance")
	ways := []*way{{path: &path{name: fileCp, procs: p.procs, dir: p.dir}, copy: func(dir string) error {
		return p.command(ctx, "file", "cp", "-r", "-q", "exit:"+dir, filepath.Join(p.dir, "copied"), "--data", data)
	}, prepare: r.fresh(p.dir, "copied"), again: nothing}}
	if _, err := exec.LookPath("scp"); err != nil || ssh == nil {
		return ways
	}
	return append(ways, &way{path: &path{name: scpThrough, procs: p.procs, dir: p.dir}, copy: func(dir string) error {
		out, err := exec.CommandContext(ctx, "scp", "-r", "-q", "-p", "-i", filepath.Join(p.dir, "key"), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
			"-o", "LogLevel=ERROR", "-o", fmt.Sprintf("ProxyCommand=%s nc exit %s --data %s", p.binary, ssh.address, data),
			"bench:"+dir, filepath.Join(p.dir, "scp-copied")).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("scp: %w: %s", err, out)
		}
		return err
	}, prepare: r.fresh(p.dir, "scp-copied"), again: nothing})
}

// fresh removes what the last row has copied.
func (r *run) fresh(dir, name string) func(string) error {
	return func(string) error { return os.RemoveAll(filepath.Join(dir, name)) }
}
