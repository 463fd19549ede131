package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"ztm/apps"
	"ztm/apps/balance"
	"ztm/apps/reach"
	"ztm/apps/tunnel/entrance"
	"ztm/apps/tunnel/exit"
	"ztm/apps/tunnel/spec"
	"ztm/apps/tunnel/traffic"
	"ztm/tunnel/identity"
)

// client is what the commands do, on a console.
type client struct {
	apps.Console
	names map[identity.ID]string // of endpoints, as they were looked up
}

func newClient(c apps.Console) *client { return &client{Console: c, names: map[identity.ID]string{}} }

// parseKey reads the name of a tunnel from a command line.
func parseKey(s string) (spec.Key, error) {
	k, err := spec.ParseKey(s)
	if err != nil {
		return k, &apps.UsageError{Err: err}
	}
	return k, nil
}

// resolve turns names of endpoints into IDs.
func (c *client) resolve(ctx context.Context, list []string) ([]identity.ID, error) {
	var ids []identity.ID
	for _, name := range list {
		ep, err := c.Trusted(ctx, name)
		if err != nil {
			return nil, err
		}
		c.names[ep.ID] = ep.Name
		ids = append(ids, ep.ID)
	}
	return ids, nil
}

// name returns the name of an endpoint, or its ID if it has left the mesh.
func (c *client) name(ctx context.Context, id identity.ID) string {
	if n, ok := c.names[id]; ok {
		return n
	}
	n := string(id)
	if ep, err := c.Resolve(ctx, n); err == nil {
		n = ep.Name
	}
	c.names[id] = n
	return n
}

func (c *client) nameList(ctx context.Context, ids []identity.ID, none string) string {
	if len(ids) == 0 {
		return none
	}
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = c.name(ctx, id)
	}
	return strings.Join(names, ", ")
}

// allow lets users reach a target through the chosen endpoint; none takes that away again.
func (c *client) allow(ctx context.Context, targets, users []string) error {
	if len(targets) == 0 {
		return &apps.UsageError{Err: errors.New("missing option --target")}
	}
	var list []spec.Allow
	for _, s := range targets {
		p, err := reach.ParsePattern(s)
		if err != nil {
			return &apps.UsageError{Err: fmt.Errorf("option --target: %w", err)}
		}
		if err := c.Call(ctx, http.MethodPost, spec.AppName+"/allow", spec.Allow{Target: p, Users: users}, &list); err != nil {
			return err
		}
	}
	return c.Print(list, allowTable(list))
}

func (c *client) getAllow(ctx context.Context) error {
	var list []spec.Allow
	if err := c.Call(ctx, http.MethodGet, spec.AppName+"/allow", nil, &list); err != nil {
		return err
	}
	return c.Print(list, allowTable(list))
}

func allowTable(list []spec.Allow) *apps.Table {
	t := &apps.Table{Header: []string{"TARGET", "USERS"}}
	for _, r := range list {
		t.Add(r.Target.String(), strings.Join(r.Users, ", "))
	}
	return t
}

func (c *client) inboundTable(ctx context.Context, list []entrance.Status) *apps.Table {
	t := &apps.Table{Header: []string{"NAME", "LISTENS", "EXITS", "STATE", "FLOWS", "UP", "DOWN"}, Wide: 3}
	for _, s := range list {
		t.Add(append([]string{s.Key.String(), joinAddresses(s.Listens), c.nameList(ctx, s.Exits, "(all)"), inboundState(&s)},
			cells(&s.Stats)...)...)
	}
	return t
}

func (c *client) outboundTable(ctx context.Context, list []exit.Status) *apps.Table {
	t := &apps.Table{Header: []string{"NAME", "TARGETS", "ENTRANCES", "USERS", "STATE", "FLOWS", "UP", "DOWN"}, Wide: 3}
	for _, s := range list {
		t.Add(append([]string{s.Key.String(), joinAddresses(s.Targets), c.nameList(ctx, s.Entrances, "(all)"),
			userList(s.Users), outboundState(&s)}, cells(&s.Stats)...)...)
	}
	return t
}

func joinAddresses(list []spec.Address) string {
	texts := make([]string, len(list))
	for i, a := range list {
		texts[i] = a.String()
	}
	return strings.Join(texts, ", ")
}

func userList(users []string) string {
	if len(users) == 0 {
		return "(owner only)"
	}
	return strings.Join(users, ", ")
}

// inboundState sums up in a word or a sentence how the listeners do.
func inboundState(s *entrance.Status) string {
	open, problem := 0, ""
	for _, l := range s.Listeners {
		if l.Open {
			open++
		} else if problem == "" {
			problem = l.Error
		}
	}
	if len(s.Listeners) == 0 {
		return "closed"
	}
	return summary(open, len(s.Listeners), "open", "closed", problem)
}

// outboundState sums up in a word or a sentence how the targets do.
func outboundState(s *exit.Status) string {
	if s.Off {
		return "off"
	}
	count := map[balance.State]int{}
	problem := ""
	for _, h := range s.Health {
		count[h.State]++
		if h.State == balance.Down && problem == "" {
			problem = h.Error
		}
	}
	switch {
	case count[balance.Down] > 0:
		return summary(count[balance.Up], len(s.Health), "up", "down", problem)
	case count[balance.Up] > 0:
		return "up"
	}
	return "untried"
}

func summary(good, all int, yes, no, problem string) string {
	if good == all {
		return yes
	}
	text := no
	if good > 0 {
		text = fmt.Sprintf("%d of %d %s", good, all, yes)
	}
	if problem != "" {
		text += ": " + problem
	}
	return text
}

func (c *client) inboundDetail(ctx context.Context, s *entrance.Status, t *apps.Table) {
	for _, l := range s.Listeners {
		state := "open"
		if !l.Open {
			state = "closed: " + l.Error
		}
		t.Add("Listen:", l.Address+"  "+state)
	}
	t.Add("Exits:", c.nameList(ctx, s.Exits, exitsOf(s)))
	if others := c.othersOffering(ctx, s); len(others) > 0 {
		t.Add("Not used:", "users "+strings.Join(others, ", ")+", who offer it as well: see --exits-of")
	}
	addSettings(t, s.Limits, string(s.Balance), s.Idle)
	if s.AcceptProxy {
		t.Add("Accepts:", "PROXY protocol")
	}
	for _, h := range s.Health {
		s.Stats.LastError = strings.ReplaceAll(s.Stats.LastError, h.Name, c.name(ctx, identity.ID(h.Name)))
		h.Name = c.name(ctx, identity.ID(h.Name))
		t.Add("Exit:", healthText(h))
	}
	c.addStats(ctx, t, &s.Stats)
}

// exitsOf says which exits an inbound uses that names none.
func exitsOf(s *entrance.Status) string {
	if s.ExitsUser == "" {
		return "(all endpoints that offer it to me)"
	}
	return fmt.Sprintf("(all endpoints of user %s that offer it)", s.ExitsUser)
}

// othersOffering returns the users who offer the tunnel of an inbound that uses those of another
// one.
func (c *client) othersOffering(ctx context.Context, s *entrance.Status) []string {
	if s.ExitsUser == "" {
		return nil
	}
	offered, err := c.Endpoints(ctx, apps.Filter{Offer: spec.AppName + "/" + s.Key.String()})
	if err != nil {
		return nil // which is no reason not to describe what is known
	}
	var users []string
	for _, ep := range offered {
		if ep.User != s.ExitsUser {
			users = append(users, ep.User)
		}
	}
	slices.Sort(users)
	return slices.Compact(users)
}

func (c *client) outboundDetail(ctx context.Context, s *exit.Status, t *apps.Table) {
	for _, h := range s.Health {
		t.Add("Target:", healthText(h))
	}
	t.Add("Entrances:", c.nameList(ctx, s.Entrances, "(all endpoints of the users)"))
	t.Add("Users:", userList(s.Users))
	if s.Off {
		t.Add("State:", "off, refuses all connections")
	}
	addSettings(t, s.Limits, string(s.Balance), s.Idle)
	if s.Check != "" {
		t.Add("Check:", string(s.Check))
	}
	if s.Proxy != "" {
		t.Add("PROXY protocol:", string(s.Proxy))
	}
	c.addStats(ctx, t, &s.Stats)
}

// addSettings adds those settings that are not the default.
func addSettings(t *apps.Table, l spec.Limits, balance string, idle apps.Duration) {
	if balance != "" {
		t.Add("Balance:", balance)
	}
	if l.RateUp != 0 {
		t.Add("Rate up:", l.RateUp.String())
	}
	if l.RateDown != 0 {
		t.Add("Rate down:", l.RateDown.String())
	}
	if l.MaxConns != 0 {
		t.Add("Connections:", fmt.Sprintf("at most %d", l.MaxConns))
	}
	if idle != 0 {
		t.Add("Idle timeout:", idle.String())
	}
}

func healthText(h balance.Health) string {
	state := string(h.State)
	if h.Error != "" {
		state += ": " + h.Error
	}
	return fmt.Sprintf("%s  %s  (%s, %d now)", h.Name, state, count(h.Flows, "flow"), h.Active)
}

func (c *client) addStats(ctx context.Context, t *apps.Table, s *traffic.Stats) {
	t.Add("Flows:", countsText(s.Counts))
	for _, p := range s.Peers {
		t.Add("Peer:", c.name(ctx, p.ID)+"  "+countsText(p.Counts))
	}
	if len(s.Errors) > 0 {
		t.Add("Errors:", errorText(s))
		t.Add("Last error:", s.LastError)
	}
	if s.Dropped > 0 {
		t.Add("Dropped:", count(s.Dropped, "datagram"))
	}
}
