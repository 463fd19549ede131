package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"

	"ztm/apps"
	"ztm/apps/tunnel/entrance"
	"ztm/apps/tunnel/spec"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/shellwords"
	"ztm/tunnel/splice"
)

// What `ztm forward` and `ztm nc` do. The client side of a forward is an inbound that runs in the
// command itself.

// forwarding is one forward of a command line: [IP:]PORT:HOST:PORT, PORT:PORT or PORT, perhaps with
// /udp.
type forwarding struct {
	protocol       string
	listen, target spec.Address
}

// parseForwarding reads a forward. Each of its two addresses may be a unix socket.
func parseForwarding(s string) (forwarding, error) {
	wrong := fmt.Errorf("%q: want [IP:]PORT:HOST:PORT, PORT:PORT or PORT, perhaps with /udp", s)
	f := forwarding{protocol: spec.TCP}
	text := strings.TrimSuffix(s, "/tcp")
	if rest, ok := strings.CutSuffix(s, "/udp"); ok {
		f.protocol, text = spec.UDP, rest
	}
	first, second, ok := splitForwarding(text)
	if !ok {
		return forwarding{}, wrong
	}
	var err error
	if f.listen, err = spec.ParseAddress(first); err != nil {
		return forwarding{}, err
	}
	if f.target, err = spec.ParseAddress(second); err != nil {
		return forwarding{}, err
	}
	if err = spec.ValidateAddresses(f.protocol, []spec.Address{f.listen, f.target}); err == nil {
		err = f.target.ValidateTarget()
	}
	return f, err
}

// splitForwarding finds where the first address ends: the parts between colons outside of brackets
// are one or two for each address.
func splitForwarding(s string) (first, second string, ok bool) {
	var parts []string
	depth, begin := 0, 0
	for i, r := range s {
		switch {
		case r == '[':
			depth++
		case r == ']':
			depth--
		case r == ':' && depth == 0:
			parts = append(parts, s[begin:i])
			begin = i + 1
		}
	}
	parts = append(parts, s[begin:])
	join := func(parts []string) string { return strings.Join(parts, ":") }
	switch len(parts) {
	case 1:
		return s, s, true // the same port there as here
	case 2:
		return parts[0], parts[1], true
	case 3:
		if parts[0]+":" == spec.UnixPrefix {
			return join(parts[:2]), parts[2], true
		}
		return parts[0], join(parts[1:]), true
	case 4:
		return join(parts[:2]), join(parts[2:]), true
	}
	return "", "", false
}

// consoleMesh lets an inbound run in a command.
type consoleMesh struct {
	apps.Console
	self apps.Endpoint
}

func (consoleMesh) Name() string          { return "" } // the console knows which mesh is meant
func (m consoleMesh) Self() apps.Endpoint { return m.self }

var _ apps.Mesh = consoleMesh{}

// forward takes connections here to targets there, or with reverse those there to targets here,
// until ctx ends.
func (c *client) forward(ctx context.Context, endpoint string, list []string, reverse bool) error {
	if len(list) == 0 {
		return &apps.UsageError{Err: errors.New("missing [IP:]PORT:HOST:PORT")}
	}
	var forwards []forwarding
	for _, s := range list {
		f, err := parseForwarding(s)
		if err != nil {
			return &apps.UsageError{Err: err}
		}
		forwards = append(forwards, f)
	}
	ep, err := c.Trusted(ctx, endpoint)
	if err != nil {
		return err
	}
	if reverse {
		return c.reverse(ctx, ep, forwards)
	}
	self, err := c.Resolve(ctx, "")
	if err != nil {
		return err
	}
	host := apps.Host{Mesh: consoleMesh{c.Console, self}, Log: slog.New(slog.DiscardHandler)}
	for _, f := range forwards {
		if err := c.mayReach(ctx, ep, f.protocol, f.target.At(0)); err != nil {
			return err
		}
		in := entrance.NewForward(host, f.protocol, f.listen, f.target, ep.ID, c.show(f, "at "+ep.Name))
		if err := in.OpenForward(); err != nil {
			return err
		}
		defer in.End()
	}
	<-ctx.Done()
	return nil
}

// mayReach asks an endpoint whether it would connect this user to a target, so that a forward that
// cannot work fails when it begins.
func (c *client) mayReach(ctx context.Context, ep apps.Endpoint, protocol string, target spec.Address) error {
	q := url.Values{spec.TargetParam: {target.String()}, spec.ProbeParam: {"1"}}
	conn, err := c.Open(ctx, ep.ID, spec.AppName+"/"+spec.ForwardPath+"/"+protocol, q)
	if err != nil {
		return deniedHint(err, target)
	}
	return conn.Close()
}

// deniedHint adds what can be done about a refusal.
func deniedHint(err error, target spec.Address) error {
	return apps.OwnerHint(err, "ztm tunnel allow --target "+shellwords.Here(target.String())+" --users USER")
}

// show prints what happens on a forward.
func (c *client) show(f forwarding, where string) func(entrance.Event) {
	var mu sync.Mutex
	return func(e entrance.Event) {
		mu.Lock()
		defer mu.Unlock()
		client := apps.Printable(e.Client)
		switch w := c.Stdout(); {
		case e.Listening != "":
			fmt.Fprintf(w, "%s %s goes to %s %s\n", f.protocol, apps.Printable(e.Listening), apps.Printable(e.Target), where)
		case e.Error != "":
			fmt.Fprintf(w, "%s turned away: %s\n", client, apps.Printable(e.Error))
		case e.Ended:
			fmt.Fprintf(w, "%s ended: %s up, %s down\n", client, apps.Amount(e.Up), apps.Amount(e.Down))
		default:
			fmt.Fprintf(w, "%s connected\n", client)
		}
	}
}

// reverse has an endpoint listen for targets here.
func (c *client) reverse(ctx context.Context, ep apps.Endpoint, forwards []forwarding) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel(nil)
	for _, f := range forwards {
		q := url.Values{spec.ListenParam: {f.listen.String()}, spec.TargetParam: {f.target.String()}}
		flow, err := c.Open(ctx, ep.ID, spec.AppName+"/"+spec.ReversePath+"/"+f.protocol, q)
		if err != nil {
			return err
		}
		running.Go(func() { cancel(c.follow(ctx, flow, ep, c.show(f, "here"))) })
	}
	<-ctx.Done()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// follow shows what an endpoint that listens for us reports, until ctx ends or it stops.
func (c *client) follow(ctx context.Context, flow net.Conn, ep apps.Endpoint, show func(entrance.Event)) error {
	defer flow.Close()
	defer context.AfterFunc(ctx, func() { flow.Close() })()
	for d := json.NewDecoder(flow); ; {
		var e entrance.Event
		if err := d.Decode(&e); err != nil {
			return answer.Errorf(answer.Broken, "endpoint %s stopped listening: %v", ep.Name, err)
		}
		show(e)
	}
}

// netcat connects standard input and output to a target at an endpoint, until the target ends.
func (c *client) netcat(ctx context.Context, endpoint, target, protocol string) error {
	a, err := spec.ParseAddress(target)
	if err != nil {
		return &apps.UsageError{Err: err}
	}
	ep, err := c.Trusted(ctx, endpoint)
	if err != nil {
		return err
	}
	flow, err := c.openTarget(ctx, ep.ID, protocol, a)
	if err != nil {
		return deniedHint(err, a)
	}
	defer flow.Close()
	defer context.AfterFunc(ctx, func() { splice.Abort(flow) })()
	go func() { // ends with standard input, or with the command
		if _, err := copyDatagrams(flow, c.Stdin()); err != nil {
			splice.Abort(flow)
		} else if protocol == spec.TCP {
			splice.CloseWrite(flow)
		}
	}()
	switch _, err := copyDatagrams(c.Stdout(), flow); {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return answer.Errorf(answer.Broken, "%s: %v", a, err)
	case protocol == spec.UDP:
		return answer.Errorf(answer.Broken, "%s refused the datagrams, or there were none for a while", a)
	}
	return nil
}

func (c *client) openTarget(ctx context.Context, id identity.ID, protocol string, target spec.Address) (net.Conn, error) {
	open := c.Open
	if protocol == spec.UDP {
		open = c.OpenDatagrams
	}
	return open(ctx, id, spec.AppName+"/"+spec.ForwardPath+"/"+protocol, url.Values{spec.TargetParam: {target.String()}})
}

// copyDatagrams copies with a buffer that holds any datagram, and one write for each read.
func copyDatagrams(dst io.Writer, src io.Reader) (int64, error) {
	return io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, make([]byte, apps.MaxDatagram))
}
