package cli

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	"ztm/apps"
	"ztm/apps/tunnel/entrance"
	"ztm/apps/tunnel/exit"
	"ztm/apps/tunnel/spec"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// end is what the commands do with one kind of end of a tunnel at the chosen endpoint.
type end struct {
	*client
	kind  string      // "inbound" or "outbound"
	title string      // of a description
	blank func() side // for an answer of the API
}

// side is one end of a tunnel, as the API shows it.
type side interface {
	key() *spec.Key                // what names it
	config() any                   // what can be set of it
	places() []spec.Address        // where it listens, or what it connects to
	apply(options, resolver) error // sets what the options say
	table(context.Context, *client) *apps.Table
	detail(context.Context, *client, *apps.Table) // adds what a description has
}

type inbound struct{ entrance.Status }

func (s *inbound) key() *spec.Key                    { return &s.Key }
func (s *inbound) config() any                       { return s.Inbound }
func (s *inbound) places() []spec.Address            { return s.Listens }
func (s *inbound) apply(o options, r resolver) error { return applyInbound(&s.Inbound, o, r) }
func (s *inbound) table(ctx context.Context, c *client) *apps.Table {
	return c.inboundTable(ctx, []entrance.Status{s.Status})
}
func (s *inbound) detail(ctx context.Context, c *client, t *apps.Table) {
	c.inboundDetail(ctx, &s.Status, t)
}

type outbound struct{ exit.Status }

func (s *outbound) key() *spec.Key                    { return &s.Key }
func (s *outbound) config() any                       { return s.Outbound }
func (s *outbound) places() []spec.Address            { return s.Targets }
func (s *outbound) apply(o options, r resolver) error { return applyOutbound(&s.Outbound, o, r) }
func (s *outbound) table(ctx context.Context, c *client) *apps.Table {
	return c.outboundTable(ctx, []exit.Status{s.Status})
}
func (s *outbound) detail(ctx context.Context, c *client, t *apps.Table) {
	c.outboundDetail(ctx, &s.Status, t)
}

func (c *client) inbounds() *end {
	return &end{c, spec.InboundKind, "Inbound:", func() side { return new(inbound) }}
}

func (c *client) outbounds() *end {
	return &end{c, spec.OutboundKind, "Outbound:", func() side { return new(outbound) }}
}

func (c *client) listInbounds(ctx context.Context) error {
	var list []entrance.Status
	if err := c.Call(ctx, http.MethodGet, spec.AppName+"/"+spec.InboundKind, nil, &list); err != nil {
		return err
	}
	return c.Print(list, c.inboundTable(ctx, list))
}

func (c *client) listOutbounds(ctx context.Context) error {
	var list []exit.Status
	if err := c.Call(ctx, http.MethodGet, spec.AppName+"/"+spec.OutboundKind, nil, &list); err != nil {
		return err
	}
	return c.Print(list, c.outboundTable(ctx, list))
}

func (e *end) path(k spec.Key) string { return spec.AppName + "/" + e.kind + "/" + k.String() }

// open opens an end. One that is open may be opened again with other settings, but not in another
// place: that would move the service from under those who use it.
func (e *end) open(ctx context.Context, name string, o options) error {
	k, err := parseKey(name)
	if err != nil {
		return err
	}
	s, old := e.blank(), e.blank()
	*s.key() = k
	if err := e.change(ctx, s, o); err != nil {
		return err
	}
	switch err := e.Call(ctx, http.MethodGet, e.path(k), nil, old); {
	case answer.CodeOf(err) == answer.NotFound:
	case err != nil:
		return err
	case !slices.Equal(old.places(), s.places()):
		return &apps.HintError{
			Err:  answer.Errorf(answer.Conflict, "%s %s is open already, with %s", e.kind, k, joinAddresses(old.places())),
			Hint: fmt.Sprintf("change it with: ztm tunnel set %s %s", e.kind, k),
		}
	}
	return e.put(ctx, s)
}

// set changes what the options say of an end, and nothing else of it.
func (e *end) set(ctx context.Context, name string, o options) error {
	s, err := e.fetch(ctx, name)
	if err != nil {
		return err
	}
	if err := e.change(ctx, s, o); err != nil {
		return err
	}
	return e.put(ctx, s)
}

func (e *end) fetch(ctx context.Context, name string) (side, error) {
	k, err := parseKey(name)
	if err != nil {
		return nil, err
	}
	s := e.blank()
	return s, missingHint(e.Call(ctx, http.MethodGet, e.path(k), nil, s))
}

func (e *end) change(ctx context.Context, s side, o options) error {
	return s.apply(o, func(names []string) ([]identity.ID, error) { return e.resolve(ctx, names) })
}

func (e *end) put(ctx context.Context, s side) error {
	now := e.blank()
	if err := e.Call(ctx, http.MethodPost, e.path(*s.key()), s.config(), now); err != nil {
		return err
	}
	return e.Print(now, now.table(ctx, e.client))
}

func (e *end) close(ctx context.Context, name string) error {
	k, err := parseKey(name)
	if err != nil {
		return err
	}
	return missingHint(e.Call(ctx, http.MethodDelete, e.path(k), nil, nil))
}

func (e *end) describe(ctx context.Context, name string) error {
	s, err := e.fetch(ctx, name)
	if err != nil {
		return err
	}
	ep, err := e.Endpoint(ctx)
	if err != nil {
		return err
	}
	t := &apps.Table{}
	t.Add(e.title, s.key().String())
	t.Add("Endpoint:", ep.Name)
	s.detail(ctx, e.client, t)
	return e.Print(s, t)
}

// missingHint adds to "there is no such tunnel" how to see which there are.
func missingHint(err error) error {
	if answer.CodeOf(err) != answer.NotFound {
		return err
	}
	return &apps.HintError{Err: err, Hint: "see what there is with: ztm get tunnel"}
}
