package mesh

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"

	"ztm/agent/api"
	"ztm/apps"
)

func (c commands) getMesh(ctx context.Context, name string) error {
	meshes, err := c.meshes(ctx, name)
	if err != nil {
		return err
	}
	t := &apps.Table{Header: []string{"NAME", "JOINED AS", "USER", "HUBS", "STATUS", "ID", "CERTIFICATE ENDS"}, Wide: 2}
	for _, m := range meshes {
		t.Add(m.Name, m.Agent.Name, m.Agent.User, orNone(m.Hubs), status(m), string(m.ID), when(m.Agent.NotAfter))
	}
	return c.Print(meshes, t)
}

// meshes lists all meshes, or the one of that name.
func (c commands) meshes(ctx context.Context, name string) ([]api.Mesh, error) {
	if name != "" {
		m, err := c.MeshNamed(ctx, name)
		return []api.Mesh{m}, err
	}
	meshes, err := c.Meshes(ctx)
	if meshes == nil {
		meshes = []api.Mesh{}
	}
	return meshes, err
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
	eps, err := c.Endpoints(ctx, f)
	if err != nil {
		return err
	}
	if eps == nil {
		eps = []apps.Endpoint{}
	}
	t := &apps.Table{
		Header: []string{"NAME", "USER", "IP", "PORT", "STATUS", "ID", "VERSION", "LABELS", "OFFERS", "SEEN"},
		Wide:   2,
	}
	for _, ep := range eps {
		ip, port := split(ep.Address)
		t.Add(title(ep), ep.User, ip, port, online(ep.Online), string(ep.ID), dash(ep.Version), c.labels(ep.Labels),
			orNone(ep.Offers), when(ep.Seen))
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

func online(on bool) string {
	if on {
		return "Online"
	}
	return "Offline"
}

func split(address string) (ip, port string) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return dash(address), "-"
	}
	return host, port
}

func (c commands) getHubs(ctx context.Context, name string) error {
	hubs, err := c.hubs(ctx, name)
	if err != nil {
		return err
	}
	t := &apps.Table{Header: []string{"NAME", "STATUS", "PING", "VERSION", "AGENTS", "CARRIERS", "ID"}, Wide: 1}
	for _, h := range hubs {
		t.Add(h.Address, online(h.Connected), milliseconds(h.RTT), dash(h.Version), strconv.Itoa(h.Agents),
			strconv.Itoa(h.Carriers), dash(string(h.ID)))
	}
	return c.Print(hubs, t)
}

// hubs lists the hubs of the mesh, or the one of that address or ID.
func (c commands) hubs(ctx context.Context, name string) ([]api.Hub, error) {
	m, err := c.Mesh(ctx)
	if err != nil {
		return nil, err
	}
	all := []api.Hub{}
	if err := c.Do(ctx, http.MethodGet, api.HubsPath(m.Name), nil, &all); err != nil || name == "" {
		return all, err
	}
	var names []string
	for _, h := range all {
		if h.Address == name || string(h.ID) == name {
			return []api.Hub{h}, nil
		}
		names = append(names, h.Address)
	}
	return nil, &apps.HintError{Err: fmt.Errorf("hub '%s' not found", name), Hint: "hubs of the mesh are: " + orNone(names)}
}

func (c commands) getUsers(ctx context.Context, name string) error {
	users, err := c.users(ctx, name)
	if err != nil {
		return err
	}
	t := &apps.Table{Header: []string{"NAME", "ENDPOINTS"}}
	for _, u := range users {
		t.Add(u.Name, orNone(u.Endpoints))
	}
	return c.Print(users, t)
}

// users lists the users of the mesh, or the one of that name.
func (c commands) users(ctx context.Context, name string) ([]api.User, error) {
	m, err := c.Mesh(ctx)
	if err != nil {
		return nil, err
	}
	all := []api.User{}
	if err := c.Do(ctx, http.MethodGet, api.UsersPath(m.Name), nil, &all); err != nil || name == "" {
		return all, err
	}
	for _, u := range all {
		if u.Name == name {
			return []api.User{u}, nil
		}
	}
	return nil, &apps.HintError{Err: fmt.Errorf("user '%s' not found", name), Hint: "see who is in the mesh with: ztm get user"}
}
