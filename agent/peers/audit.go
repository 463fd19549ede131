package peers

import (
	"errors"
	"fmt"
	"hash/maphash"
	"time"

	"ztm/agent/audit"
	"ztm/apps"
	"ztm/tunnel/answer"
	"ztm/tunnel/flow"
	"ztm/tunnel/identity"
)

// What the audit log of the endpoint gets to know of flows. It is written here, where every flow of
// every app passes, so that no app can leave one out.

// target names what the flow asks for, below its app. It is the peer's word.
func (f *inFlow) target() string {
	if to := f.query.Get(targetParam); to != "" {
		return f.path + "/" + to
	}
	return f.path
}

// Parameters of flows of several apps.
const (
	targetParam = "target" // the address that a flow of the proxy or of `ztm forward` is to reach
	probeParam  = "probe"  // the flow of a tunnel only asks whether it would be allowed
)

// ref is what a peer is told in place of the reason why a flow was refused. What the same peer asks
// for again has the same ref, whatever the reason is now.
func (f *inFlow) ref() string {
	return fmt.Sprintf("%06x", maphash.Comparable(f.p.refs, [3]string{string(f.peer.ID), f.app, f.target()})&0xffffff)
}

// line is what all lines about a flow have.
func (f *inFlow) line(e audit.Event, result string) audit.Line {
	l := audit.Line{Event: e, Result: result, User: f.peer.User, PeerID: f.peer.ID, App: f.app, Target: f.target(), Flow: f.id}
	if f.query.Has(probeParam) { // it is no repeat of one that carries something
		l.Target += " (probe)"
	}
	return l
}

// audit writes the line of a flow that is over. conn is nil if it was not accepted.
func (f *inFlow) audit(conn *flow.Conn, cut bool) {
	l := f.line(audit.Flow, audit.OK)
	switch {
	case conn == nil:
		f.refusal(&l, cut)
	case cut:
		l.Result, l.Reason = audit.End, audit.Cut
	}
	if conn != nil {
		l.Rule = f.rule
		l.In, l.Out = conn.Received(), conn.Sent()
	}
	l.Millis = time.Since(f.began).Milliseconds()
	f.p.Audit(l)
}

// auditOpened writes the line of a flow that was accepted, where the end of it is too late to hear of
// it first.
func (f *inFlow) auditOpened() {
	if f.p.AtOnce(f.app) {
		l := f.line(audit.Opened, audit.OK)
		l.Rule = f.rule
		f.p.Audit(l)
	}
}

// refusal makes a line one of a flow that was not accepted.
func (f *inFlow) refusal(l *audit.Line, cut bool) {
	l.Event, l.Result, l.Reason = audit.Refused, audit.No, audit.ReasonOf(f.why)
	switch {
	case cut:
		l.Reason = audit.Cut
	case f.why != nil && apps.IsDenial(f.why):
		l.Rule, l.Ref = f.why.Error(), f.ref()
	case f.ctx.Err() != nil:
		l.Reason = audit.Gone
	case errors.As(f.why, new(*answer.Error)):
		l.Rule = f.why.Error()
	}
}

// turnedAway records that a peer may not have a session, or ask anything in the one it has.
func (p *Peers) turnedAway(peer identity.Subject, why audit.Reason, err error) {
	p.Audit(audit.Line{Event: audit.Refused, Result: audit.No, Reason: why, User: peer.User, PeerID: peer.ID, Target: "session", Rule: err.Error()})
}

// runningSince and runningEvery say when a flow that goes on gets a line: those of terminals and of
// tunnels may be open for weeks, and the line at the end would be the first.
const (
	runningSince = time.Minute
	runningEvery = time.Hour
)

// noteRunning records the flows that have run for a while.
func (p *Peers) noteRunning(now time.Time) {
	var lines []audit.Line
	p.mu.Lock()
	for f := range p.flows {
		if f.conn == nil || now.Sub(f.began) < runningSince || !f.noted.IsZero() && now.Sub(f.noted) < runningEvery {
			continue
		}
		f.noted = now
		l := f.line(audit.Running, audit.OK)
		l.Rule = f.rule
		l.In, l.Out, l.Millis = f.conn.Received(), f.conn.Sent(), now.Sub(f.began).Milliseconds()
		lines = append(lines, l)
	}
	p.mu.Unlock()
	for _, l := range lines {
		p.Audit(l)
	}
}
