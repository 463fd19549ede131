package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"ztm/scripts/process"
	"ztm/tunnel/identity"
)

// target is what the process of an attacker is told of the mesh. It reads the CA from the root permit in Dir.
type target struct {
	Dir       string            `json:"dir"`
	Ztm       string            `json:"ztm"`
	Hub       string            `json:"hub"`
	Metrics   map[string]string `json:"metrics"`
	Tunnel    string            `json:"tunnel"`
	Dead      string            `json:"dead"`
	Datagrams string            `json:"datagrams"`
	Exit      identity.ID       `json:"exit"`
}

// attacked starts a process that attacks the mesh for so long, and returns what it says of it.
func (m *mesh) attacked(ctx context.Context, a attack, length time.Duration) (t tally, err error) {
	self, err := os.Executable()
	if err != nil {
		return t, err
	}
	in, err := json.Marshal(target{m.Dir, m.ztm, m.hub, m.metrics, m.tunnel, m.dead, m.datagrams, m.exit})
	if err != nil {
		return t, err
	}
	cmd := exec.CommandContext(ctx, "chrt", "--idle", "0", self, "-attack", a.name, "-for", length.String())
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = 30 * time.Second
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return t, fmt.Errorf("the attacker: %w", err)
	}
	err = json.Unmarshal(out, &t)
	return t, err
}

// beAttacker attacks the mesh that in describes, for so long, and writes the tally to out.
func beAttacker(ctx context.Context, name string, length time.Duration, in io.Reader, out io.Writer) error {
	all := chosen("")
	i := slices.IndexFunc(all, func(a attack) bool { return a.name == name })
	if i < 0 {
		return errors.New("no such attack: " + name)
	}
	var to target
	if err := json.NewDecoder(in).Decode(&to); err != nil {
		return err
	}
	m := &mesh{Group: process.Group{Dir: to.Dir}, ztm: to.Ztm, hub: to.Hub, metrics: to.Metrics,
		tunnel: to.Tunnel, dead: to.Dead, datagrams: to.Datagrams, exit: to.Exit}
	defer m.end()
	permit, err := os.ReadFile(filepath.Join(to.Dir, "root.json"))
	if err != nil {
		return err
	}
	if err := m.own(permit); err != nil {
		return err
	}
	if m.honest, err = m.newMember(honestUser); err != nil {
		return err
	}
	attacking, stop := context.WithTimeout(ctx, length)
	defer stop()
	t, err := all[i].run(attacking, m)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(t)
}
