package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"syscall"
	"time"

	"ztm/agent/api"
	"ztm/agent/limits"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// The control session of one mesh:
//
//  1. dial       the hub addresses of the permit in turn, the last good one first
//  2. register   PUT our signed record; the hub refuses a name that is taken
//  3. events     the stream stays open: dial-backs, trust lists, sign requests
//  4. again      at once, then with jitter: up to 4 s where the hub refuses connections (it restarts), up to 30 s where nothing answers
const (
	firstDelay   = 500 * time.Millisecond // ten thousand agents must not come back in the same instant
	refusedDelay = 4 * time.Second        // a restarted hub has everyone back within 5 s
	maxDelay     = 30 * time.Second
)

// run keeps the mesh alive until ctx or stop ends it, then waits for all it started.
func (m *mesh) run(ctx context.Context) {
	defer close(m.ended)
	defer context.AfterFunc(ctx, m.cancel)()
	m.runApps()
	m.work.Go(func() { m.peers.Run(m.life) })
	m.work.Go(m.keepCertificate)
	m.work.Go(m.keepSettling)
	m.connectForever()
	m.peers.Close()
	<-m.work.Close()
	m.spare.drop()
}

func (m *mesh) connectForever() {
	delay := time.Duration(0)
	for m.life.Err() == nil {
		ready, err := m.connect(m.life)
		m.setStatus(api.Failed, err)
		if m.life.Err() != nil {
			return
		}
		delay = nextDelay(delay, ready, err)
		wait := rand.N(delay) + time.Millisecond // full jitter
		m.log.Warn("no connection to the mesh", "err", err, "retry", wait.Round(time.Millisecond))
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-m.life.Done():
			timer.Stop()
		}
	}
}

// nextDelay is the upper end of the next wait.
func nextDelay(last time.Duration, wasReady bool, err error) time.Duration {
	if wasReady || last == 0 {
		return firstDelay
	}
	limit := maxDelay
	if errors.Is(err, syscall.ECONNREFUSED) {
		limit = refusedDelay
	}
	return min(last*2, limit)
}

// connect runs one control session to its end. It reports whether the session ever was ready.
func (m *mesh) connect(ctx context.Context) (ready bool, err error) {
	m.setStatus(api.Connecting, nil)
	s, hub, err := m.dialHub(ctx)
	if err != nil {
		return false, err
	}
	defer s.Close()
	defer context.AfterFunc(ctx, func() { s.Close() })()
	if err := m.register(ctx, s); err != nil {
		return false, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var working sync.WaitGroup // ends with ctx
	working.Go(func() { m.publishChanges(ctx, s) })
	working.Go(func() { m.tellRefused(ctx, s) })
	working.Go(func() { m.followTrust(ctx, s) })
	err = s.Events(ctx, func(e tunnel.Event) {
		if e.Type == tunnel.EventReady {
			ready = true
			m.setSession(s, hub)
			return
		}
		m.event(s, hub, e)
	})
	m.setSession(nil, identity.Subject{})
	m.spare.drop()
	cancel()
	working.Wait()
	return ready, err
}

// dialHub opens a control session with the first hub address that answers.
func (m *mesh) dialHub(ctx context.Context) (*tunnel.Session, identity.Subject, error) {
	var errs []error
	for _, address := range m.hubAddresses() {
		s, hub, err := m.dialHubAt(ctx, address)
		if err == nil {
			return s, hub, nil
		}
		errs = append(errs, err)
	}
	return nil, identity.Subject{}, errors.Join(errs...)
}

// dialHubAt opens a control session with the hub at an address.
func (m *mesh) dialHubAt(ctx context.Context, address string) (*tunnel.Session, identity.Subject, error) {
	s, err := tunnel.Open(ctx, m.agent.dialer, address, m.verifier.ClientConfig(m.certificate(), identity.RoleHub, "", tunnel.ControlProto))
	if ctx.Err() == nil { // otherwise we gave up, not the hub
		m.noteReached(address, err == nil)
	}
	if err != nil {
		return nil, identity.Subject{}, hubError(address, err)
	}
	hub, err := m.verifier.Subject(s.TLS(), identity.RoleHub)
	if err != nil {
		s.Close()
		return nil, identity.Subject{}, err
	}
	return s, hub, nil
}

// noteReached remembers whether the last attempt to reach a hub address succeeded.
func (m *mesh) noteReached(address string, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unreached = slices.DeleteFunc(m.unreached, func(a string) bool { return a == address })
	if !ok {
		m.unreached = append(m.unreached, address)
	}
}

// unreachable reports whether the last attempt to reach a hub address failed.
func (m *mesh) unreachable(address string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Contains(m.unreached, address)
}

// hubError says what a person can do about it.
func hubError(address string, err error) error {
	if errors.As(err, new(*tunnel.ProxyError)) {
		return fmt.Errorf("cannot reach hub %s: %w", address, err)
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("hub %s refuses the connection: is it running? (%w)", address, err)
	}
	return fmt.Errorf("hub %s: %w", address, err)
}

// register publishes the record. If the hub has one that is newer by its clock, ours was behind: go on from there.
func (m *mesh) register(ctx context.Context, s *tunnel.Session) error {
	doc, err := m.record()
	if err != nil {
		return err
	}
	err = s.Call(ctx, http.MethodPut, tunnel.PathEndpoints+"/"+string(m.agent.self), nil, doc, nil)
	if answer.CodeOf(err) != answer.Conflict {
		return err
	}
	var e tunnel.Entry
	if s.Call(ctx, http.MethodGet, tunnel.PathEndpoints+"/"+string(m.agent.self), nil, nil, &e) != nil {
		return err
	}
	old, _, verr := m.verifier.Record(e.Record)
	if verr != nil || old.ID != m.agent.self || !m.raiseRecordTime(old.Time) {
		return err
	}
	if doc, err = m.record(); err != nil {
		return err
	}
	return s.Call(ctx, http.MethodPut, tunnel.PathEndpoints+"/"+string(m.agent.self), nil, doc, nil)
}

// publishChanges registers again whenever labels or offers changed.
func (m *mesh) publishChanges(ctx context.Context, s *tunnel.Session) {
	for {
		select {
		case <-m.changed:
			m.mu.Lock()
			offered := m.offered
			m.mu.Unlock()
			if err := m.register(ctx, s); err != nil && ctx.Err() == nil {
				m.log.Warn("the hub refused the record of this endpoint", "err", err)
			}
			m.mu.Lock()
			m.inDirectory = offered // or refused: nothing is gained by waiting longer
			m.setStatusLocked(m.status, m.statusErr)
			m.mu.Unlock()
		case <-ctx.Done():
			return
		}
	}
}

// event handles one message of the hub. It must not block: what takes time gets a goroutine that stop waits for. Each kind of event has places of
// its own, so that none keeps another from being handled; whoever waits for an event that was dropped asks again.
func (m *mesh) event(s *tunnel.Session, hub identity.Subject, e tunnel.Event) {
	switch e.Type {
	case tunnel.EventDialBack:
		m.dialBack(s, hub, e)
	case tunnel.EventTrust:
		select {
		case <-m.newer: // an older one that nobody has looked at
		default:
		}
		m.newer <- e.Version // nobody else sends
	case tunnel.EventSign:
		if !m.work.GoUpTo(&m.signs, limits.Signs, func() { m.answerSign(s, hub, e) }) {
			m.peerLog.Warn("sign", "too many requests for a certificate at once: one was dropped")
		}
	}
}

// carry opens a carrier: a connection of its own, or a stream of the control session where that cannot be had.
func (m *mesh) carry(ctx context.Context, s *tunnel.Session, hub identity.Subject, peer identity.ID, ticket string) (net.Conn, error) {
	c, err := m.carryAlone(ctx, s, hub, peer, ticket)
	if settled(ctx, err) {
		return c, err
	}
	m.fallbacks.Add(1)
	m.log.Debug("no connection for a relayed path, using a stream of the control session", "err", err)
	return s.Relay(ctx, peer, ticket)
}

// carryAlone opens a carrier that is a connection of its own.
func (m *mesh) carryAlone(ctx context.Context, s *tunnel.Session, hub identity.Subject, peer identity.ID, ticket string) (net.Conn, error) {
	open := func(ctx context.Context) (*tunnel.Relay, error) {
		config := m.verifier.ClientConfig(m.certificate(), identity.RoleHub, hub.ID, tunnel.RelayProto)
		return tunnel.DialRelay(ctx, m.agent.dialer, s.Address(), config)
	}
	c, err := m.carryLeg(ctx, s, open, peer, ticket)
	if err == nil {
		m.work.Go(func() {
			if m.spare.prepare(s, func() (*tunnel.Relay, error) { return open(m.life) }) {
				m.log.Debug("the standby connection is ready")
			}
		})
	}
	return c, err
}

// carryLeg makes a carrier of the spare leg, or of a new one where there is none or it has gone stale.
func (m *mesh) carryLeg(
	ctx context.Context, s *tunnel.Session, open func(context.Context) (*tunnel.Relay, error), peer identity.ID, ticket string,
) (net.Conn, error) {
	if leg := m.spare.take(s); leg != nil {
		if c, err := leg.Connect(ctx, peer, ticket); settled(ctx, err) {
			return c, err
		}
	}
	leg, err := open(ctx)
	if err != nil {
		return nil, err
	}
	return leg.Connect(ctx, peer, ticket)
}

// settled reports whether another way to the hub would change nothing.
func settled(ctx context.Context, err error) bool {
	var refusal *answer.Error
	return err == nil || errors.As(err, &refusal) || ctx.Err() != nil
}

// session waits for the control session, a little while: after a start or a lost hub it is about to come.
func (m *mesh) session(ctx context.Context) (*tunnel.Session, identity.Subject, error) {
	m.mu.Lock()
	timer := time.NewTimer(sessionWait(m.lost, time.Now()))
	m.mu.Unlock()
	defer timer.Stop()
	for {
		m.mu.Lock()
		s, hub, changed, err := m.control, m.hub, m.statusChanged, m.statusErr
		m.mu.Unlock()
		if s != nil {
			return s, hub, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, hub, context.Cause(ctx)
		case <-timer.C:
			return nil, hub, answer.Errorf(answer.Unavailable, "mesh %s is not connected: %v", m.name, orUnknown(err))
		case <-m.life.Done():
			return nil, hub, answer.Errorf(answer.Unavailable, "mesh %s was left", m.name)
		}
	}
}

const (
	sessionGap  = 5 * time.Second        // so long after its loss a control session is waited for: most come back by then
	sessionLull = 500 * time.Millisecond // later, who asks should soon hear that the hub is away
)

// sessionWait is how long a request waits for a control session that was lost at some time.
func sessionWait(lost, now time.Time) time.Duration {
	return min(max(sessionGap-now.Sub(lost), sessionLull), sessionGap)
}

func orUnknown(err error) error {
	if err == nil {
		return errors.New("still connecting")
	}
	return err
}

// hubCall sends a request on the control session. A hub's refusal becomes an *answer.Error.
func (m *mesh) hubCall(ctx context.Context, method, path string, query url.Values, in, out any) error {
	s, _, err := m.session(ctx)
	if err != nil {
		return err
	}
	return answer.Lost(s.Call(ctx, method, path, query, in, out))
}

// path opens a path to a peer, for [peers.Config].
func (m *mesh) path(ctx context.Context, to identity.ID, dedicated bool) (net.Conn, error) {
	s, hub, err := m.session(ctx)
	if err != nil {
		return nil, err
	}
	if dedicated {
		return m.carryAlone(ctx, s, hub, to, "")
	}
	return m.carry(ctx, s, hub, to, "")
}
