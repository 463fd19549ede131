package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"ztm/agent/direct"
	"ztm/tunnel"
	meeting "ztm/tunnel/direct"
	"ztm/tunnel/h2"
	"ztm/tunnel/identity"
	"ztm/tunnel/inflight"
	"ztm/tunnel/limit"
	"ztm/tunnel/pause"
	"ztm/tunnel/seal"
	"ztm/tunnel/tuning"
)

// rounds measures what direct paths cost a hub where nobody gets through: within a time half of the agents
// open a session with the other half, and within as long again a session and a round in it, all of it real but for the
// dials, which nobody answers.
func rounds(ctx context.Context, dir, binary, sizes string, within time.Duration) error {
	fmt.Println("agents  rounds  failed  ms CPU of a session  of a session with a round  cores of the hub  took")
	for size := range strings.SplitSeq(sizes, ",") {
		n, err := strconv.Atoi(size)
		if err != nil || n < 2 {
			return fmt.Errorf("-n %q: want numbers with commas between", sizes)
		}
		if err := measureRounds(ctx, filepath.Join(dir, size), binary, n, within); err != nil {
			return err
		}
	}
	return nil
}

func measureRounds(ctx context.Context, dir, binary string, n int, within time.Duration) error {
	h, err := newHub(dir, binary)
	if err != nil {
		return err
	}
	defer h.End(timeout)
	hub, err := h.start(ctx)
	if err != nil {
		return err
	}
	crowd, err := newCrowd(h.permit, n)
	if err != nil {
		return err
	}
	m := newMeetings(ctx, crowd)
	defer m.end()
	if err := crowd.connect(ctx); err != nil {
		return err
	}
	before := hub.CPU()
	alone := m.all(ctx, n/2, within, func(context.Context, *agent, *seal.Session, *tunnel.Leg) error { return nil })
	session := hub.CPU().Minus(before).All
	before = hub.CPU()
	r := m.all(ctx, n/2, within, m.round)
	cost := hub.CPU().Minus(before).All
	if err := errors.Join(alone.why, r.why); err != nil {
		fmt.Println("the last that failed otherwise than it should:", err)
	}
	fmt.Printf("%6d  %6d  %6d  %19.2f  %25.2f  %16.3f  %v\n", n, r.begun, alone.failed+r.failed, session.Seconds()*1e3/float64(alone.begun), cost.Seconds()*1e3/float64(r.begun),
		cost.Seconds()/r.took.Seconds(), r.took.Round(100*time.Millisecond))
	return nil
}

// meetings are what the agents of a crowd do with each other.
type meetings struct {
	*crowd
	server *h2.Server
	log    *slog.Logger
	life   context.Context
	work   inflight.Tracker

	mu     sync.Mutex
	direct map[*agent]*direct.Direct // guarded by mu
}

func newMeetings(ctx context.Context, c *crowd) *meetings {
	m := &meetings{crowd: c, log: slog.New(slog.DiscardHandler), life: ctx, direct: map[*agent]*direct.Direct{}}
	m.server = h2.NewServer(http.HandlerFunc(m.serve), tuning.Sealed)
	c.dialBack = m.answer
	return m
}

func (m *meetings) end() {
	m.server.Close()
	m.leave()
	<-m.work.Close()
}

// of returns the Direct of an agent, whose dials reach nobody.
func (m *meetings) of(a *agent) *direct.Direct {
	m.mu.Lock()
	defer m.mu.Unlock()
	if d := m.direct[a]; d != nil {
		return d
	}
	var own [4]byte
	binary.BigEndian.PutUint32(own[:], 10<<24+1+uint32(len(m.direct)))
	here := meeting.Interfaces{Own: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4(own), 8)}}
	d := direct.New(direct.Config{
		User: func() string { return "" }, Mode: func() direct.Mode { return direct.Auto }, Verifier: m.verifier, Certificate: a.certificate, Log: m.log, PeerLog: limit.NewLog(m.log),
		Work: &m.work, Life: m.life, Known: func(identity.ID) bool { return true },
		Network: &meeting.Network{
			Addresses: func() (meeting.Interfaces, error) { return here, nil },
			Dial: func(ctx context.Context, _ uint16, _ netip.AddrPort) (net.Conn, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			},
		},
	})
	m.direct[a] = d
	return d
}

// asked is a session, as the agent sees it that did not open it.
type asked struct {
	of   *agent
	leg  *tunnel.Leg
	peer identity.Subject
}

func (m *meetings) serve(w http.ResponseWriter, r *http.Request) {
	s := h2.Tag(r).(*asked)
	if !m.of(s.of).Serve(w, r, &direct.Session{End: direct.End{Leg: s.leg}, Peer: s.peer}) {
		http.NotFound(w, r)
	}
}

// answer answers a dial-back.
func (m *meetings) answer(ctx context.Context, a *agent, e tunnel.Event) {
	path, leg, err := m.path(ctx, a, a.id, e.Ticket)
	if err != nil {
		return // the other end says so
	}
	accepted, err := seal.Server(ctx, path, m.verifier, a.certificate, nil)
	if err == nil {
		m.server.Serve(&h2.Tagged{Conn: accepted.Session, Tag: &asked{a, leg, accepted.Peer}, RTT: accepted.RTT})
	}
}

func (m *meetings) path(ctx context.Context, a *agent, to identity.ID, ticket string) (net.Conn, *tunnel.Leg, error) {
	r, err := tunnel.DialRelay(ctx, &tunnel.Dialer{}, m.hubs[0], m.verifier.ClientConfig(a.cert, identity.RoleHub, "", tunnel.RelayProto))
	if err != nil {
		return nil, nil, err
	}
	path, err := r.Connect(ctx, to, ticket)
	leg, _ := path.(*tunnel.Leg)
	return path, leg, err
}

// round is what an agent does on a session: it finds no way, after all has been said that is said.
func (m *meetings) round(ctx context.Context, a *agent, s *seal.Session, leg *tunnel.Leg) error {
	_, _, err := m.of(a).Session(ctx, s, leg)
	if direct.CauseOf(err) == direct.NoWay {
		return nil
	}
	return errors.Join(errors.New("a round of nobody's came out otherwise"), err)
}

// outcome is what came of many sessions.
type outcome struct {
	begun, failed int
	why           error // of one that failed
	took          time.Duration
}

// all has so many agents open a session with another one each, at random within a time, and use it.
func (m *meetings) all(ctx context.Context, n int, within time.Duration, use func(context.Context, *agent, *seal.Session, *tunnel.Leg) error) outcome {
	var wg sync.WaitGroup
	errs := make(chan error, n)
	began := time.Now()
	for i := range n {
		wg.Go(func() {
			if pause.For(ctx, rand.N(within)) {
				errs <- m.one(ctx, m.agents[i], m.agents[len(m.agents)-1-i], use)
			}
		})
	}
	wg.Wait()
	close(errs)
	o := outcome{took: time.Since(began)}
	for err := range errs {
		o.begun++
		if err != nil {
			o.failed++
			o.why = err
		}
	}
	return o
}

func (m *meetings) one(ctx context.Context, a, b *agent, use func(context.Context, *agent, *seal.Session, *tunnel.Leg) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	path, leg, err := m.path(ctx, a, b.id, "")
	if err != nil {
		return err
	}
	s, err := seal.Client(ctx, path, m.verifier, a.cert, b.id)
	if err != nil {
		return err
	}
	defer s.Close()
	return use(ctx, a, s, leg)
}
