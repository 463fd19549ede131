package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"

	"ztm/tunnel"
	"ztm/tunnel/identity"
)

// Dial opens a session with the first hub address that answers.
func (c *Control) Dial(ctx context.Context) (*tunnel.Session, identity.Subject, error) {
	var errs []error
	for _, address := range c.Addresses() {
		s, hub, err := c.DialAt(ctx, address)
		if err == nil {
			return s, hub, nil
		}
		errs = append(errs, err)
	}
	return nil, identity.Subject{}, errors.Join(errs...)
}

// DialAt opens a session with the hub at an address.
func (c *Control) DialAt(ctx context.Context, address string) (*tunnel.Session, identity.Subject, error) {
	s, err := tunnel.Open(ctx, c.Dialer, address, c.Verifier.ClientConfig(c.Certificate(), identity.RoleHub, "", tunnel.ControlProto))
	if ctx.Err() == nil { // otherwise we gave up, not the hub
		c.noteReached(address, err == nil)
	}
	if err != nil {
		return nil, identity.Subject{}, HubError(address, err)
	}
	hub, err := c.Verifier.Subject(s.TLS(), identity.RoleHub)
	if err != nil {
		s.Close()
		return nil, identity.Subject{}, err
	}
	return s, hub, nil
}

// noteReached remembers whether the last attempt to reach a hub address succeeded.
func (c *Control) noteReached(address string, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unreached = slices.DeleteFunc(c.unreached, func(a string) bool { return a == address })
	if !ok {
		c.unreached = append(c.unreached, address)
	}
}

// Unreachable reports whether the last attempt to reach a hub address failed.
func (c *Control) Unreachable(address string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Contains(c.unreached, address)
}

// HubError says what a person can do about it.
func HubError(address string, err error) error {
	if errors.As(err, new(*tunnel.ProxyError)) {
		return fmt.Errorf("cannot reach hub %s: %w", address, err)
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("hub %s refuses the connection: is it running? (%w)", address, err)
	}
	return fmt.Errorf("hub %s: %w", address, err)
}

// Addresses lists where to look for a hub, the last good address first.
func (c *Control) Addresses() []string {
	out := slices.Clone(c.Hubs())
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.Index(out, c.lastGood); i > 0 {
		out[0], out[i] = out[i], out[0]
	}
	return out
}
