package tunnel

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"ztm/apps"
	"ztm/tunnel/identity"
)

const (
	// askTimeout bounds how long a listing waits for one endpoint.
	askTimeout = 5 * time.Second
	// asksAtOnce bounds how many endpoints a listing asks at the same time.
	asksAtOnce = 8
	// maxListed is how many endpoints a cell of a table names.
	maxListed = 10
)

// Ends is a tunnel with the endpoints that have an end of it.
type Ends struct {
	Key
	Inbound  []End `json:"inbound"`
	Outbound []End `json:"outbound"`
}

// End is an endpoint that has an end of a tunnel.
type End struct {
	ID   identity.ID `json:"id"`
	Name string      `json:"name"`
	User string      `json:"user"`
}

// survey finds all tunnels of the mesh: the outbounds that endpoints offer, and the inbounds of this user's endpoints.
// An endpoint that does not answer is named on standard error.
func (c *client) survey(ctx context.Context) ([]Ends, string, error) {
	local, err := c.Resolve(ctx, "")
	if err != nil {
		return nil, "", err
	}
	all, err := c.Endpoints(ctx, apps.Filter{})
	if err != nil {
		return nil, "", err
	}
	tunnels := map[Key]*Ends{}
	at := func(k Key) *Ends {
		if tunnels[k] == nil {
			tunnels[k] = &Ends{Key: k, Inbound: []End{}, Outbound: []End{}}
		}
		return tunnels[k]
	}
	var own []apps.Endpoint
	for _, ep := range all {
		for _, offer := range ep.Offers {
			if k, err := ParseKey(strings.TrimPrefix(offer, appName+"/")); err == nil {
				t := at(k)
				t.Outbound = append(t.Outbound, End{ep.ID, ep.Name, ep.User})
			}
		}
		if ep.User == local.User && (ep.Online || ep.Local) {
			own = append(own, ep)
		}
	}
	for i, s := range c.ask(ctx, own) {
		for _, in := range s.Inbound {
			t := at(in.Key)
			t.Inbound = append(t.Inbound, End{own[i].ID, own[i].Name, own[i].User})
		}
	}
	list := []Ends{}
	for _, t := range sortedValues(tunnels) {
		list = append(list, *t)
	}
	return list, local.User, nil
}

// ask returns the tunnels of each of this user's endpoints; those that do not answer have none.
func (c *client) ask(ctx context.Context, own []apps.Endpoint) []Status {
	answers := make([]Status, len(own))
	errs := make([]error, len(own))
	slots := make(chan struct{}, asksAtOnce) // one element for each question under way
	var questions sync.WaitGroup
	for i, ep := range own {
		slots <- struct{}{}
		questions.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, askTimeout)
			defer cancel()
			errs[i] = c.CallAt(ctx, ep.ID, http.MethodGet, appName+"/tunnels", nil, &answers[i])
			<-slots
		})
	}
	questions.Wait()
	for i, err := range errs {
		if err != nil {
			fmt.Fprintf(c.Stderr(), "endpoint %s: %s\n", printable(own[i].Name), printable(err.Error()))
		}
	}
	return answers
}

func (c *client) getTunnel(ctx context.Context) error {
	list, user, err := c.survey(ctx)
	if err != nil {
		return err
	}
	t := &apps.Table{Header: []string{"NAME", "INBOUND", "OUTBOUND"}}
	for _, e := range list {
		t.Add(e.Key.String(), endList(e.Inbound, user), endList(e.Outbound, user))
	}
	return c.Print(list, t)
}

// endList names endpoints, with their user where that is not the given one.
func endList(list []End, user string) string {
	var names []string
	for _, e := range list[:min(len(list), maxListed)] {
		name := e.Name
		if e.User != user {
			name += " (" + e.User + ")"
		}
		names = append(names, name)
	}
	switch more := len(list) - maxListed; {
	case len(list) == 0:
		return "-"
	case more > 0:
		names = append(names, fmt.Sprintf("%d more", more))
	}
	return strings.Join(names, ", ")
}

func (c *client) describeTunnel(ctx context.Context, name string) error {
	k, err := parseKey(name)
	if err != nil {
		return err
	}
	list, user, err := c.survey(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(list, func(e Ends) bool { return e.Key == k })
	if i < 0 {
		return apps.Errorf(apps.NotFound, "tunnel %s not found", k)
	}
	t := &apps.Table{}
	t.Add("Tunnel:", k.String())
	t.Add("Inbound:", endList(list[i].Inbound, user))
	t.Add("Outbound:", endList(list[i].Outbound, user))
	return c.Print(list[i], t)
}

// printable replaces what would act on a terminal: names and messages come from other machines.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) {
			return '?'
		}
		return r
	}, s)
}
