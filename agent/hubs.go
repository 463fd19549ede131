package agent

import (
	"context"
	"crypto/rand"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"ztm/agent/api"
	"ztm/agent/authority"
	"ztm/agent/control"
	"ztm/agent/limits"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/memory"
	"ztm/tunnel/unixtime"
)

// The hubs of a mesh, as this agent has to do with them.

// slots is with how many hubs the agent has sessions.
func (a *Agent) slots() int {
	switch {
	case a.config.Hubs > 0:
		return a.config.Hubs
	case memory.Here().Small():
		return 1
	}
	return 2
}

// instance is what this process is called beside others with the same key.
type instance struct {
	name  string
	began time.Time // by the machine's clock
}

func newInstance() instance { return instance{rand.Text(), time.Now()} }

// since is when the process began, as of a time. A device without a clock learns the time later: what
// it took for the time when it began would make it older than what ran before it.
func (i instance) since(now time.Time) time.Time { return now.Add(-time.Since(i.began)) }

// signAttach signs that this process attaches to a hub; nil if it cannot.
func (a *Agent) signAttach(hub identity.ID) []byte {
	doc, err := identity.SignAttach(identity.Attach{ID: a.self, Hub: hub, Instance: a.instance.name, Since: unixtime.MillisOf(a.instance.since(a.clock.Now()))}, a.key)
	if err != nil {
		a.log.Error("cannot sign for a hub", "hub", hub, "err", err)
	}
	return doc
}

// keepHubs keeps what hubs have signed of themselves.
func (m *mesh) keepHubs(docs [][]byte) {
	if err := m.Save(func(r *authority.Row) { r.HubRecords = docs }); err != nil {
		m.log.Warn("cannot save where the hubs are", "err", err)
	}
}

// measureTime is how long a hub that there is no session with may take to answer.
const measureTime = 3 * time.Second

// getHubs asks each hub how it is: those that we are attached to, and the others on a session that
// ends at once.
func (m *mesh) getHubs(w http.ResponseWriter, r *http.Request) {
	known := m.control.Known()
	out := make([]api.Hub, len(known))
	var wg sync.WaitGroup
	for i, h := range known {
		wg.Go(func() { out[i] = m.hub(r.Context(), h) })
	}
	wg.Wait()
	answer.JSON(w, eachOnce(out))
}

// eachOnce lists a hub once where an address of which no hub was known has led to one that is listed,
// as one that a person has set does, or one of a proxy. The address is a name of that hub then.
func eachOnce(all []api.Hub) []api.Hub {
	at := map[identity.ID]int{}
	out := all[:0]
	for _, h := range all {
		i, twice := at[h.ID]
		if !twice || h.ID == "" {
			at[h.ID] = len(out)
			out = append(out, h)
			continue
		}
		if len(out[i].Names) == 0 { // it is the address that was not known to be of this hub
			out[i], h = h, out[i]
		}
		if !slices.Contains(out[i].Names, h.Address) {
			out[i].Names = append(slices.Clone(out[i].Names), h.Address)
		}
	}
	return out
}

// hub is a hub for the local API.
func (m *mesh) hub(ctx context.Context, h control.Hub) api.Hub {
	out := api.Hub{ID: h.ID, Status: api.HubStandby, Names: h.Record.Names, Zone: h.Record.Zone, Version: h.Record.Version, RTT: ms(h.RTT)}
	if len(h.Addresses) > 0 {
		out.Address = h.Addresses[0]
	}
	ctx, cancel := context.WithTimeout(ctx, measureTime)
	defer cancel()
	var status tunnel.HubStatus
	var err error
	began := time.Now()
	if h.Session != nil {
		out.Address, out.Status, out.Connected = h.Session.Address(), api.Attached, true
		out.Standby, out.Fallbacks = m.control.Standby(h.ID), m.control.Fallbacks()
		err = h.Session.Call(ctx, http.MethodGet, tunnel.PathHub, nil, nil, &status)
		out.RTT = ms(time.Since(began))
	} else {
		var rtt time.Duration
		if status, out.Address, rtt, err = m.control.Measure(ctx, h); err == nil {
			out.RTT = ms(rtt)
		}
	}
	if err != nil {
		if len(h.Addresses) > 0 {
			out.Address = h.Addresses[0]
		}
		out.Status, out.Error, out.RTT = api.Unreachable, oneLine(err), 0
		return out
	}
	out.ID, out.Version, out.Agents, out.Relays = status.ID, status.Version, status.Agents, status.Relays
	out.Since, out.Note = status.Since, status.Note
	if h.Draining {
		out.Status = api.Draining
	}
	return out
}

// putHubs sets the addresses of hubs by hand.
func (m *mesh) putHubs(w http.ResponseWriter, r *http.Request) {
	var hubs []string
	err := answer.Decode(r, limits.Body, &hubs)
	if err == nil {
		answer.Explain(w, "%s", strings.Join(hubs, " "))
		err = m.setHubs(hubs)
	}
	answer.Reply(w, m.log, nil, err)
}

func (m *mesh) setHubs(hubs []string) error {
	if len(hubs) == 0 || len(hubs) > tunnel.MaxHubs {
		return answer.Errorf(answer.BadRequest, "want 1 to %d addresses of hubs", tunnel.MaxHubs)
	}
	for _, h := range hubs {
		if err := identity.CheckHostPort(h); err != nil {
			return answer.Errorf(answer.BadRequest, "%v", err)
		}
	}
	err := m.Save(func(r *authority.Row) { r.Hubs, r.HubRecords = slices.Clone(hubs), nil })
	if err != nil {
		return err
	}
	m.control.Repair()
	return nil
}
