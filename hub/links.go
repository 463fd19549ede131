package hub

import (
	"context"
	"crypto/ed25519"
	"net/http"
	"time"

	"ztm/hub/directory"
	"ztm/hub/link"
	"ztm/hub/state"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

// What package link asks of this hub. Links call nothing here while they hold their lock, and what
// is here calls them while it holds none but that of the directory, which they never wait for.

// host is the hub as its links see it.
type host struct{ *server }

var (
	_ link.Host  = host{}
	_ link.Asked = host{}
	_ link.Book  = (*directory.Local)(nil)
)

// newLinks makes the links of a hub.
func (s *server) newLinks(me state.Self) (err error) {
	c := link.Config{
		Own: identity.HubRecord{ID: s.id, Names: s.names, Zone: me.Zone, Version: s.config.Version, Weight: me.Weight},
		Key: s.key, Certificate: s.presented, Verifier: s.verifier, Peers: me.Peers, Known: me.Hubs,
		Host: host{s}, Asked: host{s}, Most: s.config.Limits.Agents, Hops: s.config.Limits.Hops, Log: s.log,
		Ping: s.config.ping, Silent: s.config.silent, Lookup: s.config.lookup,
	}
	c.Book, _ = s.directory.(link.Book) // a directory that all hubs share needs no copies
	if s.links, err = link.New(c); err != nil {
		return err
	}
	s.directory.Elsewhere(s.id, s.links.Seen)
	return nil
}

// Attachment implements [link.Host].
func (h host) Attachment(id identity.ID) (link.Attachment, bool) {
	s := h.sessions.of(id)
	if s == nil {
		return link.Attachment{}, false
	}
	a := link.Attachment{Address: s.peer.addr.String(), Attach: s.attach, Instance: s.said.Instance, Since: s.said.Since}
	if book, ok := h.directory.(link.Book); ok {
		_, a.Time = book.Record(id)
	}
	return a, true
}

// Attached implements [link.Host].
func (h host) Attached() (ids []identity.ID) {
	h.sessions.each(func(s *session) { ids = append(ids, s.peer.ID) })
	return ids
}

// Key implements [link.Host].
func (h host) Key(id identity.ID) ed25519.PublicKey {
	e, err := h.directory.Entry(id)
	if err != nil {
		return nil
	}
	_, subject, err := h.verifier.InspectRecord(e.Record)
	if err != nil || subject.ID != id {
		return nil
	}
	return subject.Key
}

// Replace implements [link.Host].
func (h host) Replace(id identity.ID, instance string, since unixtime.Millis) {
	s := h.sessions.of(id)
	if s == nil || s.said.Instance == "" || s.said.Instance == instance || s.said.Since >= since {
		return
	}
	h.log.Warn("another process with the key of an endpoint is newer, and attached to another hub: the older one is ended", "endpoint", id)
	s.peer.cut()
}

// Lost implements [link.Host]: what comes through a hub that is silent is cut.
func (h host) Lost(hub identity.ID) {
	h.peers.cut(func(p *peer) bool { return p.Role == identity.RoleHub && p.ID == hub })
}

// Changed implements [link.Host].
func (h host) Changed() {
	select {
	case h.hubsChanged <- struct{}{}:
	default:
	}
}

// tellHubsEvery is how often agents are told of other hubs at most. Each of them asks then, and a
// hub may have another record each moment.
const tellHubsEvery = time.Second

// tellHubs tells agents of other hubs, and keeps them for the next start.
func (s *server) tellHubs() {
	known := s.links.Known()
	if err := s.state.Change(func(me *state.Self) { me.Hubs = known }); err != nil {
		s.log.Error("cannot save what other hubs there are", "err", err)
	}
	event := &tunnel.Event{Type: tunnel.EventHubs}
	s.sessions.each(func(session *session) { session.send(event) })
}

// Sign implements [link.Asked].
func (h host) Sign(ctx context.Context, signer identity.ID, what tunnel.SignRequest) ([]byte, error) {
	_, session, err := h.sessions.find(signer)
	if err != nil {
		return nil, answer.Errorf(answer.NotFound, "endpoint %s is not attached to this hub", signer)
	}
	return h.signers.ask(ctx, session, what)
}

// SetTrust implements [link.Asked].
func (h host) SetTrust(doc []byte, from identity.Subject) error {
	err := h.setTrust(doc, &peer{Subject: from})
	if answer.CodeOf(err) == answer.Conflict {
		return nil // it is kept for a holder of the CA key, or is an old one
	}
	return err
}

// endpointGone tells other hubs of an ephemeral endpoint that was forgotten, if all are heard: else it
// may be attached to one of them.
func (s *server) endpointGone(id identity.ID, recorded unixtime.Millis) {
	if s.links.Complete() {
		s.links.Left(id, recorded, false)
	}
}

// getHubs is GET /v1/hubs.
func (s *server) getHubs(w http.ResponseWriter, _ *http.Request, _ *peer, _ string) error {
	return writeJSON(w, s.links.List())
}

// serveHub answers a request of another hub.
func (s *server) serveHub(w http.ResponseWriter, r *http.Request, p *peer) {
	name, err := s.links.Serve(w, r, p.Subject)
	s.metrics.request(name, err)
	if err != nil {
		hurry(w)
		answer.Fail(w, s.log.With("request", name, "hub", p.ID), err)
	}
}
