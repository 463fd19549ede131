package hub

import (
	"cmp"
	"sync"

	"ztm/hub/directory"
	"ztm/hub/relay"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// sessions are the events streams of the agents that are attached to this hub.
type sessions struct {
	directory directory.Directory

	mu   sync.Mutex
	byID map[identity.ID]*session
}

func newSessions(d directory.Directory) *sessions {
	return &sessions{directory: d, byID: map[identity.ID]*session{}}
}

// attach makes an agent online. The caller calls detach when its stream ends.
func (ss *sessions) attach(s *session) (detach func(), err error) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	offline, err := ss.directory.Attach(s.peer.ID, s.peer.addr.String(), s.end)
	if err != nil {
		return nil, err
	}
	ss.byID[s.peer.ID] = s
	return func() {
		s.end()
		offline()
		ss.forget(s)
	}, nil
}

func (ss *sessions) forget(s *session) {
	ss.mu.Lock()
	if ss.byID[s.peer.ID] == s {
		delete(ss.byID, s.peer.ID)
	}
	ss.mu.Unlock()
}

// find returns the name and the session of an endpoint. Where it is offline, there is a name and an
// error; where there is no such endpoint, an error alone.
func (ss *sessions) find(id identity.ID) (name string, s *session, err error) {
	if name = ss.directory.Name(id); name == "" {
		return "", nil, answer.Errorf(answer.NotFound, "there is no endpoint %s", id)
	}
	if s = ss.of(id); s == nil {
		return name, nil, answer.Errorf(answer.Unavailable, "endpoint %s is offline", name)
	}
	return name, s, nil
}

// Find implements [relay.Sessions].
func (ss *sessions) Find(id identity.ID) (name string, s relay.Session, err error) {
	return ss.find(id)
}

// Name implements [relay.Sessions].
func (ss *sessions) Name(id identity.ID) string { return cmp.Or(ss.directory.Name(id), string(id)) }

// of returns the session of an endpoint; nil if it is not attached here.
func (ss *sessions) of(id identity.ID) *session {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return ss.byID[id]
}

// signer returns the session of an endpoint that holds the CA key; nil if none is attached here.
func (ss *sessions) signer() *session {
	for _, id := range ss.directory.Signers(identity.RootUser) {
		if s := ss.of(id); s != nil {
			return s
		}
	}
	return nil
}

// each calls f for every session. f must not block.
func (ss *sessions) each(f func(*session)) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	for _, s := range ss.byID {
		f(s)
	}
}
