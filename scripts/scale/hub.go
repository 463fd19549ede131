package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"ztm/scripts/process"
)

// oneHub is the hub of a measurement, which may be started again.
type oneHub struct {
	process.Group
	binary, address, permit string
	starts                  int
}

func newHub(dir, binary string) (*oneHub, error) {
	h := &oneHub{Group: process.Group{Dir: dir}, binary: binary, address: process.FreeAddress(), permit: filepath.Join(dir, "root.json")}
	return h, os.MkdirAll(dir, 0o700)
}

func (h *oneHub) start(ctx context.Context) (*process.Process, error) {
	h.starts++
	hub, err := h.Start(fmt.Sprint("hub-", h.starts), h.binary, "run", "hub", "--data", filepath.Join(h.Dir, "hub"), "--listen", h.address,
		"--names", h.address, "--permit", h.permit, "--max-agents", "1000000")
	if err != nil {
		return nil, err
	}
	return hub, process.Until(ctx, "the hub runs", timeout, func() error { return hub.Says("hub is running") })
}
