package mesh

import (
	"cmp"
	"context"
	"net/http"
	"strconv"

	"ztm/agent/api"
	"ztm/apps"
	"ztm/tunnel/unixtime"
)

func (c commands) describeMesh(ctx context.Context, name string) error {
	m, err := c.meshSeen(ctx, name)
	if err != nil {
		return err
	}
	return c.Print(m, &apps.Table{Rows: [][]string{
		{"Mesh:", m.Name},
		{"ID:", string(m.ID)},
		{"Status:", status(m)},
		{"Hubs:", orNone(m.Hubs)},
		{"Joined as:", m.Agent.Name},
		{"Endpoint ID:", string(m.Agent.ID)},
		{"User:", m.Agent.User},
		{"Labels:", orNone(m.Agent.Labels)},
		{"Certificate ends:", unixtime.Text(m.Agent.NotAfter) + renewal(m)},
		{"Can sign:", yesNo(m.Signer)},
		{"Trust list:", "version " + strconv.FormatUint(m.Trust, 10)},
	}})
}

// renewal says that the mesh's CA was replaced and that the agent has no certificate of the new one
// yet.
func renewal(m api.Mesh) string {
	if m.Agent.Issuer == m.CA {
		return ""
	}
	return " (is being renewed: the key of root was replaced)"
}

func (c commands) describeEndpoint(ctx context.Context, name string) error {
	found, err := c.EndpointNamed(ctx, name)
	if err != nil {
		return err
	}
	m, err := c.Mesh(ctx)
	if err != nil {
		return err
	}
	path := api.EndpointPath(m.Name, found.ID)
	if at, err := c.Endpoint(ctx); err != nil {
		return err
	} else if c.Chosen() && at.ID != found.ID { // what another endpoint sees of it
		path = api.EndpointPath(m.Name, at.ID, "endpoints", string(found.ID))
	}
	var ep api.Endpoint
	if err := c.Do(ctx, http.MethodGet, path, nil, &ep); err != nil {
		return err
	}
	// An endpoint does not know itself from without: that the directory does.
	ip, port := split(cmp.Or(ep.Address, found.Address))
	route := routeText(ep.Route)
	if ep.Local {
		route = "-"
	}
	rows := [][]string{
		{"Endpoint:", title(ep.Endpoint)},
		{"ID:", string(ep.ID)},
		{"Username:", ep.User},
		{"IP:", ip},
		{"Port:", port},
		{"Ping:", milliseconds(ep.RTT)},
		{"Status:", online(ep.Endpoint)},
		{"Last seen:", unixtime.Text(ep.Seen)},
		{"Sessions:", strconv.Itoa(ep.Sessions)},
		{"Path:", route},
		{"Labels:", orNone(ep.Labels)},
		{"Offers:", offers(ep.Offers)},
		{"Can sign:", yesNo(ep.Signer)},
		{"Version:", cmp.Or(ep.Version, "-")},
	}
	if d := ep.Route.Datagrams; d != nil {
		rows = append(rows, []string{"Datagrams:", datagrams(*d)})
	}
	return c.Print(ep, &apps.Table{Rows: rows})
}

// datagrams says how flows of datagrams go that have a path of their own, or why they have none.
func datagrams(r api.Route) string {
	if r.Direct == "" {
		return "in the session: " + r.Why
	}
	return routeText(r)
}

// pathOf is a route in one cell of a table.
func pathOf(r api.Route) string {
	path := routeText(r)
	if d := r.Datagrams; d != nil {
		path += "; datagrams " + datagrams(*d)
	}
	return path
}

// routeText says what a route is, and since when.
func routeText(r api.Route) string {
	if r.Since.IsZero() {
		return r.String()
	}
	return r.String() + ", since " + unixtime.Text(r.Since)
}

func (c commands) describeHub(ctx context.Context, name string) error {
	hubs, err := c.hubs(ctx, name)
	if err != nil {
		return err
	}
	h := hubs[0]
	t := &apps.Table{Rows: [][]string{
		{"Hub:", hubName(h)},
		{"ID:", cmp.Or(string(h.ID), "-")},
		{"Status:", hubStatus(h)},
		{"Names:", orNone(h.Names)},
		{"Reached at:", cmp.Or(h.Address, "-")},
		{"Zone:", cmp.Or(h.Zone, "-")},
		{"Ping:", milliseconds(h.RTT)},
		{"Agents:", ofHub(h, h.Agents)},
		{"Relays:", ofHub(h, h.Relays)},
		{"Running since:", unixtime.Text(h.Since)},
		{"Version:", cmp.Or(h.Version, "-")},
	}}
	if h.Error != "" {
		t.Rows = append(t.Rows, []string{"Error:", h.Error})
	}
	return c.Print(h, t)
}

func (c commands) describeUser(ctx context.Context, name string) error {
	users, err := c.users(ctx, name)
	if err != nil {
		return err
	}
	t := &apps.Table{Rows: [][]string{
		{"User:", users[0].Name},
		{"Endpoints:", orNone(users[0].Endpoints)},
	}}
	for _, d := range users[0].Devices {
		t.Add(d.Name+":", "admitted "+unixtime.Text(d.Admitted)+", by "+cmp.Or(d.By, "-")+", valid until "+unixtime.Text(d.Until))
	}
	if e := users[0].Evicted; e != nil {
		t.Add("Evicted:", unixtime.Text(e.At)+", by "+by(*e)+", reason: "+cmp.Or(e.Reason, "-"))
	}
	return c.Print(users[0], t)
}
