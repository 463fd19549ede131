//go:build !ztm_router

package cli

import (
	"cmp"
	"context"
	"fmt"

	"ztm/apps"
	"ztm/apps/tunnel/frpc"
	"ztm/apps/tunnel/spec"
)

// imports is whether `ztm import` is there.
const imports = true

// importFrp prints what a file of frp means here, or does it.
func (c *client) importFrp(ctx context.Context, file, server string, apply bool) error {
	config, err := c.readFrp(file)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	plan := config.Plan(server)
	if !apply {
		return c.Print(plan, planTable(plan))
	}
	for _, why := range plan.Left {
		fmt.Fprintln(c.Stderr(), "left out:", why)
	}
	for _, s := range plan.Steps {
		if err := c.step(ctx, s); err != nil {
			return fmt.Errorf("%v: %w", s, err)
		}
	}
	return nil
}

func (c *client) readFrp(file string) (*frpc.Config, error) {
	in, err := apps.Input(c.Stdin(), file)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	return frpc.Read(in)
}

// planTable is a plan as a script of shell.
func planTable(p frpc.Plan) *apps.Table {
	t := &apps.Table{}
	for _, s := range p.Steps {
		if !s.Wanted {
			t.Add(s.String())
		}
	}
	for _, s := range p.Steps {
		if s.Wanted {
			t.Add("# where it is wanted, or with --server EP: " + s.String())
		}
	}
	for _, why := range p.Left {
		t.Add("# left out: " + why)
	}
	return t
}

// step opens an end of a tunnel.
func (c *client) step(ctx context.Context, s frpc.Step) error {
	if s.Wanted {
		fmt.Fprintln(c.Stderr(), "where it is wanted:", s)
		return nil
	}
	at := c
	if s.At != "" {
		ep, err := c.Trusted(ctx, s.At)
		if err != nil {
			return err
		}
		at = newClient(elsewhere{c.Console, ep})
	}
	if s.Kind == spec.InboundKind {
		return at.inbounds().open(ctx, s.Tunnel, given(s.Options))
	}
	return at.outbounds().open(ctx, s.Tunnel, given(s.Options))
}

// elsewhere is a console at an endpoint of its own.
type elsewhere struct {
	apps.Console
	ep apps.Endpoint
}

func (e elsewhere) Call(ctx context.Context, method, path string, in, out any) error {
	return e.CallAt(ctx, e.ep.ID, method, path, in, out)
}

func (e elsewhere) Endpoint(context.Context) (apps.Endpoint, error) { return e.ep, nil }

// given is options that stand in no command line.
type given map[string][]string

func (g given) IsSet(name string) bool           { return g[name] != nil }
func (g given) StringSlice(name string) []string { return g[name] }
func (g given) String(name string) string        { return cmp.Or(append(g[name], "")...) }
func (g given) Int(string) int                   { return 0 }
func (g given) Bool(string) bool                 { return false }
