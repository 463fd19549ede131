package authority

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
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
	head, err := identity.ParseHead(r.Header.Get(seal.FieldTrust))
	if err != nil || r.ContentLength <= 0 || r.ContentLength > limits.TrustBytes {
		return answer.Errorf(answer.BadRequest, "trust list: its version or its length is missing or makes no sense")
	}
	// A holder of the CA key also reads an older list, which may have an eviction that others lack.
	if own := a.Verifier.Trust().Head(); own.Same(head) || head.Version < own.Version && !a.Signs() {
		return answer.Errorf(answer.Conflict, "trust list: version %d is in force here", own.Version)
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
	if err := a.takeList(doc); identity.Explains(err) {
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
	theirs, err := identity.ParseHead(resp.Header.Get(seal.FieldTrust))
	own := a.Verifier.Trust().Head()
	if err != nil || own.Same(theirs) {
		return
	}
	a.Work.Go(func() {
		ctx, cancel := context.WithTimeout(a.Life, tunnel.ProbeTimeout)
		defer cancel()
		var err error
		if theirs.Version >= own.Version {
			err = a.takeTrustOf(ctx, s)
		}
		if theirs.Version < own.Version || errors.Is(err, identity.ErrFork) && s.Peer().User == RootUser {
			err = a.giveTrust(ctx, s)
		}
		if err != nil && !errors.Is(err, identity.ErrRollback) && ctx.Err() == nil {
			a.PeerLog.Warn("list "+string(s.Peer().ID), "no trust list was passed on", "peer", s.Peer().ID, "own", own.Version, "theirs", theirs.Version, "err", err)
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
	req.Header.Set(seal.FieldTrust, own.Head().String())
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
	return a.takeList(doc)
}
