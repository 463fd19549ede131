package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"

	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/race"
)

// Visit has use ask a hub, on a session that ends with it: the first address that answers, and where
// use fails there for a reason that is that hub's own, the others in turn.
func (c *Control) Visit(ctx context.Context, use func(s *tunnel.Session) error) error {
	addresses := c.Addresses()
	s, _, err := c.dialOne(ctx, "", addresses)
	if err != nil {
		return err
	}
	err = use(s)
	s.Close()
	errs := []error{err}
	for _, address := range addresses {
		if err == nil || !elsewhere(ctx, err) {
			return err
		}
		if address == s.Address() {
			continue
		}
		other, _, dialled := c.DialAt(ctx, address)
		if err = dialled; err == nil {
			err = use(other)
			other.Close()
		}
		errs = append(errs, err)
	}
	if err == nil {
		return nil
	}
	return errs[0]
}

// dialOne opens a session at the first of some addresses that answers, RaceDelay apart; with the hub
// of an ID, or with any where that is "".
func (c *Control) dialOne(ctx context.Context, id identity.ID, addresses []string) (*tunnel.Session, identity.Subject, error) {
	got, i, errs := race.First(ctx, len(addresses), RaceDelay, func(ctx context.Context, i int) (io.Closer, error) {
		s, _, err := c.dialHub(ctx, id, addresses[i])
		return s, err
	})
	if i < 0 {
		return nil, identity.Subject{}, answer.Join(errs...)
	}
	s := got.(*tunnel.Session)
	hub, err := c.Verifier.Subject(s.TLS(), identity.RoleHub)
	if err != nil {
		s.Close()
	}
	return s, hub, err
}

// DialAt opens a session with the hub at an address.
func (c *Control) DialAt(ctx context.Context, address string) (*tunnel.Session, identity.Subject, error) {
	return c.dialHub(ctx, "", address)
}

func (c *Control) dialHub(ctx context.Context, id identity.ID, address string) (*tunnel.Session, identity.Subject, error) {
	s, err := tunnel.Open(ctx, c.Dialer, address, c.Verifier.ClientConfig(c.Certificate(), identity.RoleHub, id, tunnel.ControlProto))
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

// HubErrors is HubError for several hubs, in their order: those that say the same are named together.
func HubErrors(addresses []string, errs []error) (out []error) {
	said := map[string]string{} // the addresses, by what hubs there said
	for i, err := range errs {
		if was, again := said[err.Error()]; again {
			said[err.Error()] = was + ", " + addresses[i]
		} else {
			said[err.Error()] = addresses[i]
		}
	}
	for _, err := range errs {
		if all, ok := said[err.Error()]; ok {
			out = append(out, HubError(all, err))
			delete(said, err.Error())
		}
	}
	return out
}
