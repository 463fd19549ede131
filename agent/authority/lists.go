package authority

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strconv"
	"time"

	"ztm/agent/limits"
	"ztm/agent/peers"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/flow"
	"ztm/tunnel/identity"
	"ztm/tunnel/seal"
)

// Peers pass trust lists on to each other, see compareTrust. A list may be large, and whoever sends
// one need not be somebody who may use anything here:
//
//  1. the header says which version it is: one that is not newer is not read
//  2. a place among those that are read (listFrom); whoever is slow makes room for another user
//  3. read, within limits.ListTime
//  4. updateTrust: the signature first

// ServeTrust gives the trust list, or takes a newer one.
func (a *Authority) ServeTrust(w http.ResponseWriter, r *http.Request, peer identity.Subject) {
	if r.Method == http.MethodGet {
		w.Write(a.Verifier.Trust().Document())
		return
	}
	if err := a.takeTrust(w, r, peer); err != nil {
		answer.Fail(w, a.Log, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (a *Authority) takeTrust(w http.ResponseWriter, r *http.Request, peer identity.Subject) error {
	version, err := strconv.ParseUint(r.Header.Get(seal.FieldTrust), 10, 64)
	if err != nil || r.ContentLength <= 0 || r.ContentLength > limits.TrustBytes {
		return answer.Errorf(answer.BadRequest, "trust list: its version or its length is missing or makes no sense")
	}
	if own := a.Verifier.Trust().Version(); version <= own {
		return answer.Errorf(answer.Conflict, "trust list: version %d is in force here", own)
	}
	body := http.NewResponseController(w)
	done, err := a.listFrom(peer, func() { body.SetReadDeadline(time.Unix(1, 0)) })
	if err != nil {
		return err
	}
	defer done()
	body.SetReadDeadline(time.Now().Add(limits.ListTime))
	doc, err := answer.Body(r, r.ContentLength)
	if err != nil {
		return err
	}
	if err := a.UpdateTrust(doc); identity.Explains(err) {
		return answer.Errorf(answer.BadRequest, "trust list: %v", err)
	} else if err != nil {
		return err
	}
	return nil
}

// listFrom takes a place for reading a trust list of a peer; stop ends the reading when another
// user needs the place.
func (a *Authority) listFrom(peer identity.Subject, stop func()) (done func(), err error) {
	if !a.listsOf.Acquire(peer.ID, 1) {
		return nil, answer.Errorf(answer.Limit, "endpoint %s is already sending a trust list", peer.ID)
	}
	release, ok := a.lists.Acquire(peer.User, stop)
	if !ok {
		a.listsOf.Release(peer.ID)
		return nil, answer.Errorf(answer.Limit, "others send trust lists at the moment")
	}
	return func() {
		release()
		a.listsOf.Release(peer.ID)
	}, nil
}

// CompareTrust passes trust lists on between peers: a hub that withholds an eviction is found out
// by the first peer that knows of it.
func (a *Authority) CompareTrust(s flow.Session, resp *http.Response) {
	theirs, err := strconv.ParseUint(resp.Header.Get(seal.FieldTrust), 10, 64)
	own := a.Verifier.Trust()
	if err != nil || theirs == own.Version() {
		return
	}
	a.Work.Go(func() {
		ctx, cancel := context.WithTimeout(a.Life, tunnel.ProbeTimeout)
		defer cancel()
		exchange := a.giveTrust
		if theirs > own.Version() {
			exchange = a.takeTrustOf
		}
		if err := exchange(ctx, s); err != nil && ctx.Err() == nil {
			a.PeerLog.Warn("list "+string(s.Peer().ID), "no trust list was passed on", "peer", s.Peer().ID, "own", own.Version(), "theirs", theirs, "err", err)
		}
	})
}

// giveTrust sends our trust list to a peer.
func (a *Authority) giveTrust(ctx context.Context, s flow.Session) error {
	own := a.Verifier.Trust()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://peer"+seal.PathTrust, bytes.NewReader(own.Document()))
	if err != nil {
		return err
	}
	req.Header.Set(seal.FieldTrust, strconv.FormatUint(own.Version(), 10))
	if err := s.Reserve(); err != nil {
		return err
	}
	resp, err := s.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		return peers.ResponseError(resp)
	}
	return nil
}

// FollowTrust brings hub and agent to the same trust list whenever the hub has another.
func (a *Authority) FollowTrust(ctx context.Context, s *tunnel.Session) {
	for {
		select {
		case version := <-a.newer:
			a.syncTrust(s, version)
		case <-ctx.Done():
			return
		}
	}
}

// takeTrustOf asks a peer for its trust list.
func (a *Authority) takeTrustOf(ctx context.Context, s flow.Session) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done, err := a.listFrom(s.Peer(), cancel)
	if err != nil {
		return err
	}
	defer done()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://peer"+seal.PathTrust, nil)
	if err != nil {
		return err
	}
	if err := s.Reserve(); err != nil {
		return err
	}
	resp, err := s.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	doc, err := io.ReadAll(io.LimitReader(resp.Body, limits.TrustBytes))
	if err != nil {
		return err
	}
	return a.UpdateTrust(doc)
}
