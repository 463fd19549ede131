package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// commandTimeout bounds one command of a plan. Service managers wait for the start of a service.
const commandTimeout = 2 * time.Minute

// Install writes the files of the plan and starts the service. It calls owner, if not nil, for each
// directory that it makes.
func (p Plan) Install(ctx context.Context, owner func(path string) error) error {
	for _, d := range p.Dirs {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
		if owner != nil {
			if err := owner(d); err != nil {
				return fmt.Errorf("data directory: %w", err)
			}
		}
	}
	for _, f := range p.Files {
		if err := f.write(); err != nil {
			return fmt.Errorf("install service: %w", err)
		}
	}
	return runAll(ctx, p.Start)
}

// Uninstall stops the service and removes what Install wrote, except the data directory and files
// with Keep.
func (p Plan) Uninstall(ctx context.Context) error {
	if !p.Installed() {
		return errNotInstalled(p)
	}
	if err := runAll(ctx, p.Stop); err != nil {
		return err
	}
	for _, f := range p.Files {
		if f.Keep {
			continue
		}
		if err := os.Remove(f.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove service: %w", err)
		}
	}
	return runAll(ctx, p.Remove)
}

// Halt stops the service, and disables its start at boot.
func (p Plan) Halt(ctx context.Context) error {
	if !p.Installed() {
		return errNotInstalled(p)
	}
	return runAll(ctx, p.Stop)
}

// Installed reports whether the files of the plan exist. A plan without files reports true: only
// its service manager knows.
func (p Plan) Installed() bool {
	if len(p.Files) == 0 {
		return true
	}
	_, err := os.Stat(p.Files[0].Path)
	return err == nil
}

// Running reports whether the service runs.
func (p Plan) Running(ctx context.Context) bool {
	return p.Installed() && runAll(ctx, []Command{p.Status}) == nil
}

func errNotInstalled(p Plan) error {
	return fmt.Errorf("%s is not a service of this machine: %s is not there", p.Name, p.Files[0].Path)
}

// write creates or replaces the file in one step.
func (f File) write() error {
	if _, err := os.Lstat(f.Path); err == nil && f.Keep {
		return nil
	}
	dir := filepath.Dir(f.Path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	temp, err := os.CreateTemp(dir, ".ztm-*")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	_, err = temp.WriteString(f.Text)
	err = errors.Join(err, temp.Chmod(f.Mode), temp.Sync(), temp.Close())
	if err != nil {
		return err
	}
	return os.Rename(temp.Name(), f.Path)
}

// runAll runs commands until one without Try fails.
func runAll(ctx context.Context, commands []Command) error {
	for _, c := range commands {
		if err := c.run(ctx); err != nil && !c.Try {
			return err
		}
	}
	return nil
}

func (c Command) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	program, err := find(c.Args[0])
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, program, c.Args[1:]...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(c.Args, " "), err, bytes.TrimSpace(said.Bytes()))
	}
	return nil
}
