package main

import (
	"context"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"ztm/scripts/process"
	"ztm/tunnel/identity"
	"ztm/tunnel/pause"
)

// slotsOf is with how many hubs an agent has sessions.
const slotsOf = 2

// most is by how much an agent may cost more where there are four times as many: noise.
const most = 1.5

// cost is what agents cost each of several hubs.
type cost struct {
	agents  int
	memory  float64 // bytes of a hub for each agent of the mesh, at rest
	whole   float64 // the same with what a hub without agents takes: a few of them find room in that
	connect float64 // seconds of a hub's processor for each agent of the mesh
	rest    float64 // cores of a hub
	lookups float64 // in a second, of all hubs
	lookup  float64 // seconds of processor for each, of all hubs
	lost    time.Duration
}

// several measures a mesh of hubs with one number of agents after the other.
func several(ctx context.Context, dir, binary string, hubs int, sizes string, rest time.Duration) error {
	fmt.Printf("%d hubs, each agent has sessions with %d\n", hubs, slotsOf)
	fmt.Println("agents  KB of each hub  ms CPU of each hub  cores at rest  lookup/s  us CPU  two sessions again after a hub's loss")
	var first cost
	for size := range strings.SplitSeq(sizes, ",") {
		n, err := strconv.Atoi(size)
		if err != nil || n < 1 {
			return fmt.Errorf("-n %q: want numbers with commas between", sizes)
		}
		c, err := measureSeveral(ctx, filepath.Join(dir, size), binary, hubs, n, rest)
		if err != nil {
			return err
		}
		fmt.Printf("%6d  %14.1f  %18.2f  %13.3f  %8.0f  %6.0f  %v\n", c.agents, c.memory/1e3, c.connect*1e3, c.rest, c.lookups, c.lookup*1e6, c.lost.Round(100*time.Millisecond))
		if first.agents == 0 {
			first = c
		}
		if c.whole > most*first.whole || c.connect > most*first.connect || c.lookup > most*first.lookup {
			return fmt.Errorf("an agent of %d costs more than %.1f times what one of %d does", c.agents, most, first.agents)
		}
	}
	return nil
}

// cluster is hubs of one mesh, as processes.
type cluster struct {
	process.Group
	binary    string
	hubs      []*process.Process
	addresses []string
}

func (c *cluster) start(ctx context.Context, permit string, more ...string) error {
	name, address := fmt.Sprint("hub-", len(c.hubs)), process.FreeAddress()
	args := append([]string{"run", "hub", "--data", filepath.Join(c.Dir, name), "--listen", address, "--names", address, "--permit", permit,
		"--max-agents", "1000000"}, more...)
	hub, err := c.Start(name, c.binary, args...)
	if err != nil {
		return err
	}
	c.hubs, c.addresses = append(c.hubs, hub), append(c.addresses, address)
	return process.Until(ctx, name, timeout, func() error { return hub.Says("hub is running") })
}

// add starts another hub, with a permit for its key.
func (c *cluster) add(ctx context.Context, root *identity.Permit, ca *identity.CA) error {
	data := filepath.Join(c.Dir, fmt.Sprint("hub-", len(c.hubs)))
	public, err := exec.CommandContext(ctx, c.binary, "run", "hub", "--data", data, "--identity", "-").Output()
	if err != nil {
		return err
	}
	key, err := identity.ParsePublicKey(public)
	if err != nil {
		return err
	}
	permit, err := hubPermit(root, ca, key)
	if err != nil {
		return err
	}
	file := data + ".json"
	if err := os.WriteFile(file, permit, 0o600); err != nil {
		return err
	}
	return c.start(ctx, file, "--peers", c.addresses[0])
}

func hubPermit(root *identity.Permit, ca *identity.CA, key ed25519.PublicKey) ([]byte, error) {
	der, err := ca.SignHub(key, time.Now())
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	p := identity.Permit{Version: 1, Mesh: ca.Mesh(), CA: root.CA, Bootstraps: root.Bootstraps, Hub: &identity.PermitHub{Certificate: string(text)}}
	return p.Marshal()
}

// use is the processor time and the memory of all hubs.
func (c *cluster) use() (cpu time.Duration, memory int64) {
	for _, h := range c.hubs {
		now, _ := h.Memory()
		cpu, memory = cpu+h.CPU().All, memory+now
	}
	return cpu, memory
}

func newCluster(ctx context.Context, dir, binary string, hubs int) (*cluster, string, error) {
	c := &cluster{Group: process.Group{Dir: dir}, binary: binary}
	file := filepath.Join(dir, "root.json")
	err := errors.Join(os.MkdirAll(dir, 0o700), c.start(ctx, file))
	if err != nil {
		return c, file, err
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return c, file, err
	}
	root, err := identity.ParsePermit(b)
	if err != nil {
		return c, file, err
	}
	ca, err := identity.ParseCA([]byte(root.CA), []byte(root.CAKey))
	for len(c.hubs) < hubs && err == nil {
		err = c.add(ctx, root, ca)
	}
	return c, file, err
}

func measureSeveral(ctx context.Context, dir, binary string, hubs, n int, rest time.Duration) (r cost, err error) {
	c, permit, err := newCluster(ctx, dir, binary, hubs)
	defer c.End(timeout)
	if err != nil {
		return r, err
	}
	crowd, err := newCrowd(permit, n)
	if err != nil {
		return r, err
	}
	defer crowd.leave()
	crowd.hubs, crowd.slots = c.addresses, slotsOf
	each := float64(n * hubs)

	r.agents = n
	cpu, empty := c.use()
	if err := crowd.connect(ctx); err != nil {
		return r, err
	}
	connected, _ := c.use()
	r.connect = (connected - cpu).Seconds() / each
	if !pause.For(ctx, rest) {
		return r, ctx.Err()
	}
	rested, memory := c.use()
	r.rest, r.memory = (rested-connected).Seconds()/rest.Seconds()/float64(hubs), float64(memory-empty)/each
	r.whole = float64(memory) / each

	const length = 5 * time.Second
	found, err := crowd.lookUp(ctx, length)
	if err != nil {
		return r, err
	}
	cpu, _ = c.use()
	r.lookups, r.lookup = float64(found)/length.Seconds(), (cpu-rested).Seconds()/float64(found)

	c.hubs[0].Kill()
	start := time.Now()
	err = process.Until(ctx, "agents notice", timeout, func() error {
		if crowd.want(n*slotsOf) == nil {
			return errors.New("all have two sessions")
		}
		return nil
	})
	if err != nil {
		return r, err
	}
	err = process.Until(ctx, "all agents have two sessions again", 5*time.Minute, func() error { return crowd.want(n * slotsOf) })
	r.lost = time.Since(start)
	return r, err
}
