package web

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"sync"
	"time"

	"ztm/tunnel/answer"
)

// Limits of what is known to be good.
const (
	codeLife    = time.Minute
	ticketLife  = 30 * time.Second
	maxSessions = 32
	maxCodes    = 32
	maxTickets  = 256 // of all sessions
)

// digest is what is kept of a secret: looking one up tells nothing by its time.
type digest [sha256.Size]byte

func digestOf(secret string) digest { return sha256.Sum256([]byte(secret)) }

// sessions are the browsers that were let in, and the codes and tickets that are still good. The
// zero value is not ready: see begin.
type sessions struct {
	ctx  context.Context // of all sessions; static
	last func()          // called when nobody is left; static

	mu      sync.Mutex
	codes   map[digest]*code    // guarded by mu
	keys    map[digest]*session // guarded by mu
	tickets map[digest]*ticket  // guarded by mu
}

type code struct {
	readOnly bool
	until    time.Time
}

// session is one browser. Everything that it has opened ends with its context.
type session struct {
	ctx      context.Context
	end      context.CancelFunc
	key      digest
	readOnly bool
}

type ticket struct {
	of    *session
	path  string // with the query
	until time.Time
}

func (s *sessions) begin(ctx context.Context, last func()) {
	s.ctx, s.last = ctx, last
	s.codes, s.keys, s.tickets = map[digest]*code{}, map[digest]*session{}, map[digest]*ticket{}
}

// count returns how many browsers were let in, and how many codes are still good.
func (s *sessions) count() (in, waiting int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweepLocked()
	return len(s.keys), len(s.codes)
}

// invite returns a code of 130 bits. It is good once, and for a minute.
func (s *sessions) invite(readOnly bool) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweepLocked()
	if len(s.codes) >= maxCodes {
		return "", answer.Errorf(answer.Limit, "too many browsers were invited within a minute")
	}
	secret := rand.Text()
	s.codes[digestOf(secret)] = &code{readOnly: readOnly, until: time.Now().Add(codeLife)}
	return secret, nil
}

// sweepLocked forgets what is good no longer.
func (s *sessions) sweepLocked() {
	now := time.Now()
	for d, c := range s.codes {
		if now.After(c.until) {
			delete(s.codes, d)
		}
	}
	for d, t := range s.tickets {
		if now.After(t.until) || t.of.ctx.Err() != nil {
			delete(s.tickets, d)
		}
	}
}

// exchange gives a key of 260 bits for a code.
func (s *sessions) exchange(secret string) (key string, _ *session, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweepLocked()
	d := digestOf(secret)
	c := s.codes[d]
	if c == nil || s.ctx.Err() != nil {
		return "", nil, answer.Errorf(answer.Denied, "the code was used or is too old: run ztm console again")
	}
	delete(s.codes, d)
	if len(s.keys) >= maxSessions {
		return "", nil, answer.Errorf(answer.Limit, "%d browsers use this console: ztm console --lock ends them", maxSessions)
	}
	key = rand.Text() + rand.Text()
	n := &session{key: digestOf(key), readOnly: c.readOnly}
	n.ctx, n.end = context.WithCancel(s.ctx)
	s.keys[n.key] = n
	return key, n, nil
}

// find returns the session of a key, or nil.
func (s *sessions) find(key string) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys[digestOf(key)]
}

// drop ends a session and all that it has opened.
func (s *sessions) drop(n *session) {
	n.end()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.keys, n.key)
}

// leave shuts the door if no page is left, and none is about to come.
func (s *sessions) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweepLocked()
	if len(s.keys) == 0 && len(s.codes) == 0 {
		s.last()
	}
}

// allot returns a ticket for a path.
func (s *sessions) allot(n *session, path string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweepLocked()
	if len(s.tickets) >= maxTickets {
		return "", answer.Errorf(answer.Limit, "too many tickets wait to be used")
	}
	secret := rand.Text()
	s.tickets[digestOf(secret)] = &ticket{of: n, path: path, until: time.Now().Add(ticketLife)}
	return secret, nil
}

// redeem returns whose ticket it is, or nil if it is not good for the path. It is good no more.
func (s *sessions) redeem(secret, path string) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweepLocked()
	d := digestOf(secret)
	t := s.tickets[d]
	delete(s.tickets, d)
	if t == nil || t.path != path {
		return nil
	}
	return t.of
}
