package mesh

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"ztm/agent/api"
	"ztm/apps"
	"ztm/tunnel/unixtime"
)

func (c commands) getMesh(ctx context.Context, name string) error {
	meshes, err := c.meshes(ctx, name)
	if err != nil {
		return err
	}
	t := &apps.Table{Header: []string{"NAME", "JOINED AS", "USER", "HUBS", "STATUS", "ID", "CERTIFICATE ENDS"}, Wide: 2}
	for _, m := range meshes {
		t.Add(m.Name, m.Agent.Name, m.Agent.User, orNone(m.Hubs), status(m), string(m.ID), unixtime.Text(m.Agent.NotAfter))
	}
	return c.Print(meshes, t)
}

// meshes lists all meshes, or the one of that name.
func (c commands) meshes(ctx context.Context, name string) ([]api.Mesh, error) {
	if name != "" || c.Chosen() {
		m, err := c.meshSeen(ctx, name)
		return []api.Mesh{m}, err
	}
	meshes, err := c.Meshes(ctx)
	if meshes == nil {
		meshes = []api.Mesh{}
	}
	return meshes, err
}

// meshSeen is the mesh of that name, or the chosen one, as the chosen endpoint has joined it.
func (c commands) meshSeen(ctx context.Context, name string) (api.Mesh, error) {
	m, err := c.MeshNamed(ctx, name)
	if err != nil || !c.Chosen() {
		return m, err
	}
	ep, err := c.Endpoint(ctx)
	if err != nil {
		return m, err
	}
	if chosen, err := c.Mesh(ctx); err != nil || chosen.Name != m.Name {
		return m, &apps.UsageError{Err: fmt.Errorf("endpoint %s is in mesh '%s'", ep.Name, chosen.Name)}
	}
	var seen api.Mesh
	err = c.Do(ctx, http.MethodGet, api.EndpointPath(m.Name, ep.ID, "mesh"), nil, &seen)
	return seen, err
}

// endpoints lists what the chosen endpoint sees.
func (c commands) endpoints(ctx context.Context, f apps.Filter) ([]api.Endpoint, error) {
	m, err := c.Mesh(ctx)
	if err != nil {
		return nil, err
	}
	path := api.EndpointsPath(m.Name, f)
	if c.Chosen() {
		ep, err := c.Endpoint(ctx)
		if err != nil {
			return nil, err
		}
		path = api.ViewPath(m.Name, ep.ID, f)
	}
	eps := []api.Endpoint{}
	return eps, c.Do(ctx, http.MethodGet, path, nil, &eps)
}

// status is the connection to a mesh in the words of ZTM.
func status(m api.Mesh) string {
	switch m.Status {
	case api.Connected:
		return "Connected"
	case api.Connecting:
		return "Connecting"
	}
	if m.Error != "" {
		return "ERROR: " + m.Error
	}
	return "Offline"
}

func (c commands) getEndpoints(ctx context.Context, f apps.Filter) error {
	eps, err := c.endpoints(ctx, f)
	if err != nil {
		return err
	}
	t := &apps.Table{
		Header: []string{"NAME", "USER", "IP", "PORT", "STATUS", "ID", "VERSION", "LABELS", "OFFERS", "SEEN", "PATH"},
		Wide:   3,
	}
	for _, ep := range eps {
		ip, port := split(ep.Address)
		path := pathOf(ep.Route)
		if ep.Local {
			path = "-"
		}
		t.Add(title(ep.Endpoint), ep.User, ip, port, online(ep.Endpoint), string(ep.ID), cmp.Or(ep.Version, "-"), c.labels(ep.Labels),
			offers(ep.Offers), unixtime.Text(ep.Seen), path)
	}
	return c.Print(eps, t)
}

// title is the name of an endpoint, marked if it is the agent's own.
func title(ep apps.Endpoint) string {
	if ep.Local {
		return ep.Name + " (local)"
	}
	return ep.Name
}

// labels shows the first labels, or all in a wide table.
func (c commands) labels(labels []string) string {
	const shown = 3
	if len(labels) > shown && !c.Wide() {
		return strings.Join(labels[:shown], " ") + "..."
	}
	return strings.Join(labels, " ")
}

func online(ep apps.Endpoint) string {
	switch {
	case ep.Online:
		return "Online"
	case ep.Unknown:
		return "Unknown"
	}
	return "Offline"
}

func split(address string) (ip, port string) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return cmp.Or(address, "-"), "-"
	}
	return host, port
}

func (c commands) getHubs(ctx context.Context, name string) error {
	hubs, err := c.hubs(ctx, name)
	if err != nil {
		return err
	}
	t := &apps.Table{Header: []string{"NAME", "STATUS", "PING", "VERSION", "ZONE", "AGENTS", "RELAYS", "ID"}, Wide: 1}
	for _, h := range hubs {
		t.Add(hubName(h), hubStatus(h), milliseconds(h.RTT), cmp.Or(h.Version, "-"), cmp.Or(h.Zone, "-"), ofHub(h, h.Agents),
			ofHub(h, h.Relays), cmp.Or(string(h.ID), "-"))
		if h.Note != "" {
			c.Warn("%s: %s", hubName(h), h.Note)
		}
	}
	return c.Print(hubs, t)
}

// hubStatus is what a hub is to the agent.
func hubStatus(h api.Hub) string {
	switch h.Status {
	case api.Attached:
		return "Attached"
	case api.Draining:
		return "Draining"
	case api.Unreachable:
		return "Unreachable"
	}
	return "Standby"
}

// ofHub shows a count that the hub has said.
func ofHub(h api.Hub, n int) string {
	if h.Status == api.Unreachable {
		return "-"
	}
	return strconv.Itoa(n)
}

// hubName is what people call a hub: its first name. Several hubs may share others, and addresses.
func hubName(h api.Hub) string {
	if len(h.Names) > 0 {
		return h.Names[0]
	}
	return h.Address
}

// hubs lists the hubs of the mesh, or the one with that name, address or ID.
func (c commands) hubs(ctx context.Context, name string) ([]api.Hub, error) {
	path, err := c.View(ctx, "hubs")
	if err != nil {
		return nil, err
	}
	all := []api.Hub{}
	if err := c.Do(ctx, http.MethodGet, path, nil, &all); err != nil || name == "" {
		return all, err
	}
	found := matching(all, name)
	switch len(found) {
	case 0:
		return nil, &apps.HintError{Err: fmt.Errorf("hub '%s' not found", name), Hint: "hubs of the mesh are: " + orNone(hubNames(all))}
	case 1:
		return found, nil
	}
	return nil, &apps.HintError{Err: fmt.Errorf("%d hubs have the name '%s'", len(found), name), Hint: "say which by its ID: " + orNone(hubIDs(found))}
}

// matching returns the hubs that a name or an ID is of. What a hub is called first counts before names
// that it may share; the port may be left out.
func matching(all []api.Hub, name string) []api.Hub {
	for _, is := range []func(api.Hub) bool{
		func(h api.Hub) bool { return string(h.ID) == name || hubName(h) == name },
		func(h api.Hub) bool { return h.Address == name || slices.Contains(h.Names, name) },
		func(h api.Hub) bool {
			return slices.ContainsFunc(h.Names, func(n string) bool { return hostOf(n) == name })
		},
	} {
		var found []api.Hub
		for _, h := range all {
			if is(h) {
				found = append(found, h)
			}
		}
		if len(found) > 0 {
			return found
		}
	}
	return nil
}

func hostOf(address string) string {
	host, _, _ := net.SplitHostPort(address)
	return host
}

func hubIDs(hubs []api.Hub) (ids []string) {
	for _, h := range hubs {
		ids = append(ids, string(h.ID))
	}
	return ids
}

func hubNames(hubs []api.Hub) (names []string) {
	for _, h := range hubs {
		names = append(names, hubName(h))
	}
	return names
}

func (c commands) getUsers(ctx context.Context, name string) error {
	users, err := c.users(ctx, name)
	if err != nil {
		return err
	}
	t := &apps.Table{Header: []string{"NAME", "ENDPOINTS", "ADMITTED", "BY", "VALID UNTIL", "STATUS"}}
	for _, u := range users {
		admitted, by, until := membership(u.Devices)
		if until.IsZero() || !u.Ends.IsZero() && u.Ends.Before(until) {
			until = u.Ends
		}
		t.Add(u.Name, orNone(u.Endpoints), unixtime.Text(admitted), cmp.Or(by, "-"), unixtime.Text(until), userStatus(u))
	}
	return c.Print(users, t)
}

// membership sums up the endpoints of a user: when the first was admitted, by whom, and until when
// the last certificate is good.
func membership(devices []api.Device) (admitted time.Time, by string, until time.Time) {
	for _, d := range devices {
		if admitted.IsZero() || d.Admitted.Before(admitted) {
			admitted = d.Admitted
		}
		if d.Until.After(until) {
			until = d.Until
		}
		if by == "" {
			by = d.By
		}
	}
	return admitted, by, until
}

// userStatus says what a user is: in the mesh, admitted and not seen there, invited, evicted and when,
// or somebody whose access has ended.
func userStatus(u api.User) string {
	switch {
	case !u.Ends.IsZero() && !u.Ends.After(time.Now()):
		return "Ended " + unixtime.Text(u.Ends)
	case len(u.Endpoints) > 0:
		return "Member"
	case len(u.Devices) > 0:
		return "Admitted"
	case !u.Invited.IsZero():
		return "Invited until " + unixtime.Text(u.Invited)
	case u.Evicted != nil:
		return "Evicted " + unixtime.Text(u.Evicted.At) + " by " + by(*u.Evicted)
	}
	return "-"
}

// users lists the users of the mesh, or the one of that name.
func (c commands) users(ctx context.Context, name string) ([]api.User, error) {
	path, err := c.View(ctx, "users")
	if err != nil {
		return nil, err
	}
	all := []api.User{}
	if err := c.Do(ctx, http.MethodGet, path, nil, &all); err != nil {
		return all, err
	}
	if all, err = c.withEvicted(ctx, all); err != nil || name == "" {
		return all, err
	}
	for _, u := range all {
		if u.Name == name {
			return []api.User{u}, nil
		}
	}
	return nil, &apps.HintError{Err: fmt.Errorf("user '%s' not found", name), Hint: "see who is in the mesh with: ztm get user"}
}

// withEvicted adds who was evicted.
func (c commands) withEvicted(ctx context.Context, users []api.User) ([]api.User, error) {
	evictions, err := c.evictions(ctx)
	if err != nil {
		return users, err
	}
	for _, e := range evictions {
		if e.User == "" {
			continue
		}
		i, found := slices.BinarySearchFunc(users, e.User, func(u api.User, name string) int { return strings.Compare(u.Name, name) })
		if !found {
			users = slices.Insert(users, i, api.User{Name: e.User, Endpoints: []string{}})
		}
		users[i].Evicted = &e
	}
	return users, nil
}
