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

// end is what the commands do with one kind of end of a tunnel at the chosen endpoint. S is how the
// API shows one.
type end[S any] struct {
	*client
	kind   string                  // "inbound" or "outbound"
	title  string                  // of a description
	key    func(*S) *spec.Key      // what names it
	config func(*S) any            // what can be set of it
	places func(*S) []spec.Address // where it listens, or what it connects to
	apply  func(*S, options, resolver) error
	table  func(context.Context, []S) *apps.Table
	detail func(context.Context, *S, *apps.Table) // adds what a description has
}

func (c *client) inbounds() end[entrance.Status] {
	return end[entrance.Status]{
		client: c, kind: spec.InboundKind, title: "Inbound:",
		key:    func(s *entrance.Status) *spec.Key { return &s.Key },
		config: func(s *entrance.Status) any { return s.Inbound },
		places: func(s *entrance.Status) []spec.Address { return s.Listens },
		apply:  func(s *entrance.Status, o options, r resolver) error { return applyInbound(&s.Inbound, o, r) },
		table:  c.inboundTable,
		detail: c.inboundDetail,
	}
}

func (c *client) outbounds() end[exit.Status] {
	return end[exit.Status]{
		client: c, kind: spec.OutboundKind, title: "Outbound:",
		key:    func(s *exit.Status) *spec.Key { return &s.Key },
		config: func(s *exit.Status) any { return s.Outbound },
		places: func(s *exit.Status) []spec.Address { return s.Targets },
		apply:  func(s *exit.Status, o options, r resolver) error { return applyOutbound(&s.Outbound, o, r) },
		table:  c.outboundTable,
		detail: c.outboundDetail,
	}
}

func (e end[S]) path(k spec.Key) string { return spec.AppName + "/" + e.kind + "/" + k.String() }

// open opens an end. One that is open may be opened again with other settings, but not in another
// place: that would move the service from under those who use it.
func (e end[S]) open(ctx context.Context, name string, o options) error {
	k, err := parseKey(name)
	if err != nil {
		return err
	}
	var s S
	*e.key(&s) = k
	if err := e.change(ctx, &s, o); err != nil {
		return err
	}
	var old S
	switch err := e.Call(ctx, http.MethodGet, e.path(k), nil, &old); {
	case answer.CodeOf(err) == answer.NotFound:
	case err != nil:
		return err
	case !slices.Equal(e.places(&old), e.places(&s)):
		return &apps.HintError{
			Err:  answer.Errorf(answer.Conflict, "%s %s is open already, with %s", e.kind, k, joinAddresses(e.places(&old))),
			Hint: fmt.Sprintf("change it with: ztm tunnel set %s %s", e.kind, k),
		}
	}
	return e.put(ctx, &s)
}

// set changes what the options say of an end, and nothing else of it.
func (e end[S]) set(ctx context.Context, name string, o options) error {
	s, err := e.fetch(ctx, name)
	if err != nil {
		return err
	}
	if err := e.change(ctx, s, o); err != nil {
		return err
	}
	return e.put(ctx, s)
}

func (e end[S]) fetch(ctx context.Context, name string) (*S, error) {
	k, err := parseKey(name)
	if err != nil {
		return nil, err
	}
	var s S
	return &s, missingHint(e.Call(ctx, http.MethodGet, e.path(k), nil, &s))
}

func (e end[S]) change(ctx context.Context, s *S, o options) error {
	return e.apply(s, o, func(names []string) ([]identity.ID, error) { return e.resolve(ctx, names) })
}

func (e end[S]) put(ctx context.Context, s *S) error {
	var now S
	if err := e.Call(ctx, http.MethodPost, e.path(*e.key(s)), e.config(s), &now); err != nil {
		return err
	}
	return e.Print(now, e.table(ctx, []S{now}))
}

func (e end[S]) close(ctx context.Context, name string) error {
	k, err := parseKey(name)
	if err != nil {
		return err
	}
	return missingHint(e.Call(ctx, http.MethodDelete, e.path(k), nil, nil))
}

func (e end[S]) list(ctx context.Context) error {
	var list []S
	if err := e.Call(ctx, http.MethodGet, spec.AppName+"/"+e.kind, nil, &list); err != nil {
		return err
	}
	return e.Print(list, e.table(ctx, list))
}

func (e end[S]) describe(ctx context.Context, name string) error {
	s, err := e.fetch(ctx, name)
	if err != nil {
		return err
	}
	ep, err := e.Endpoint(ctx)
	if err != nil {
		return err
	}
	t := &apps.Table{}
	t.Add(e.title, e.key(s).String())
	t.Add("Endpoint:", ep.Name)
	e.detail(ctx, s, t)
	return e.Print(*s, t)
}

// missingHint adds to "there is no such tunnel" how to see which there are.
func missingHint(err error) error {
	if answer.CodeOf(err) != answer.NotFound {
		return err
	}
	return &apps.HintError{Err: err, Hint: "see what there is with: ztm get tunnel"}
}
