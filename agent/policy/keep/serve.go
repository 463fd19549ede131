package keep

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"ztm/agent/feature"
	"ztm/apps"
	"ztm/tunnel/answer"
	"ztm/tunnel/flow"
	"ztm/tunnel/identity"
	signed "ztm/tunnel/identity/policy"
)

// What peers ask of the policy, on sealed sessions.
const (
	PathHead   = "/v1/policy"        // GET: the head. POST: a newer one
	PathSlice  = "/v1/policy/slice"  // POST: of a holder of the CA key, the caller's slice. PUT: from root, yours
	PathSource = "/v1/policy/source" // GET: of a holder, by another endpoint of the same user: all
	PathCan    = "/v1/policy/can"    // GET: what the caller may reach here

	// Field names the head that an endpoint has, in its answers: the version, and after a dash the
	// beginning of its sum.
	Field = "Ztm-Policy"
)

const (
	maxRequest = 64 << 10 // bytes of a request for a slice
	bodyTime   = 20 * time.Second
	sumChars   = 16 // of a head's sum, in the field
)

// Serve answers a request of a peer. root says whether the peer is of the user who holds the CA key.
func (k *Keeper) Serve(w http.ResponseWriter, r *http.Request, peer identity.Subject, root bool) {
	var err error
	switch at := r.Method + " " + r.URL.Path; {
	case at == "GET "+PathHead:
		if h := k.Head(); h != nil {
			w.Write(h.Document)
		}
		return
	case at == "POST "+PathHead:
		err = k.serveTake(w, r)
	case !feature.Policies && (at == "POST "+PathSlice || at == "GET "+PathSource):
		err = errMakesNone
	case feature.Policies && at == "POST "+PathSlice:
		err = k.serveSlice(w, r, peer)
	case at == "PUT "+PathSlice && root:
		err = k.serveGiven(w, r)
	case feature.Policies && at == "GET "+PathSource && root:
		err = k.serveSource(w)
	case at == "GET "+PathCan:
		err = k.serveCan(w, r, peer)
	default:
		err = answer.Errorf(answer.Denied, "the policy as a whole is for those who hold the CA key")
	}
	if err != nil {
		answer.Fail(w, k.Log, err)
	}
}

// errMakesNone is what an endpoint says that may hold the CA key and was built without [feature.Policies].
// Whoever asks it asks another.
var errMakesNone = answer.Errorf(answer.NotFound, "this endpoint runs a build of ztm that makes no policy and gives none out: another endpoint of root does")

func (k *Keeper) serveTake(w http.ResponseWriter, r *http.Request) error {
	doc, err := readBody(w, r, signed.MaxHead)
	if err != nil {
		return err
	}
	return taken(w, k.Take(doc))
}

// taken answers whoever has brought a head. A roll-back is none of their mistakes.
func taken(w http.ResponseWriter, err error) error {
	switch {
	case errors.Is(err, identity.ErrRollback):
	case identity.Explains(err) || errors.Is(err, signed.ErrSource):
		return answer.Errorf(answer.BadRequest, "policy: %v", err)
	case err != nil:
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// readBody reads a body of a peer, which has a length and some time.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength <= 0 || r.ContentLength > limit {
		return nil, answer.Errorf(answer.BadRequest, "policy: want a Content-Length of 1 to %d bytes", limit)
	}
	http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime))
	return answer.Body(r, r.ContentLength)
}

// serveSlice cuts the slice of a peer. Who asks often waits: each is signed.
func (k *Keeper) serveSlice(w http.ResponseWriter, r *http.Request, peer identity.Subject) error {
	ca, err := k.Signer()
	if err != nil {
		return answer.Errorf(answer.NotFound, "%v", err)
	}
	if !k.asks.Take(peer.ID, time.Now()) {
		return answer.Errorf(answer.Limit, "endpoint %s asks for the policy too often", peer.ID)
	}
	body, err := readBody(w, r, maxRequest)
	if err != nil {
		return err
	}
	var in request
	err = json.Unmarshal(body, &in)
	if err == nil {
		err = apps.CheckWho(in.Asked)
	}
	if err == nil && len(in.Asked) > signed.MaxAsked {
		err = fmt.Errorf("it asks for %d users and groups, the limit is %d", len(in.Asked), signed.MaxAsked)
	}
	if err != nil {
		return answer.Errorf(answer.BadRequest, "policy: the request: %v", err)
	}
	k.noteAsked(peer.ID, in.Asked)
	source, head, err := k.whole()
	if err != nil {
		return err
	}
	if head == nil {
		return answer.Errorf(answer.NotFound, "the mesh has no policy")
	}
	doc, err := k.cutter(source).Slice(head, peer.ID, in.Asked).Sign(ca)
	if err != nil {
		return answer.Errorf(answer.Limit, "%v", err)
	}
	k.confirmed(head, peer.ID)
	answer.JSON(w, given{Head: head.Document, Body: doc})
	return nil
}

// serveCan tells a peer what it may reach here.
func (k *Keeper) serveCan(w http.ResponseWriter, r *http.Request, peer identity.Subject) error {
	if !k.looks.Take(peer.ID, time.Now()) {
		return answer.Errorf(answer.Limit, "endpoint %s asks what it may reach too often", peer.ID)
	}
	out, err := k.may(r.Context(), apps.Peer{ID: peer.ID, User: peer.User})
	if err == nil {
		answer.JSON(w, out)
	}
	return err
}

func (k *Keeper) serveSource(w http.ResponseWriter) error {
	_, head, err := k.whole()
	if err != nil {
		return err
	}
	if head == nil {
		return answer.Errorf(answer.NotFound, "the mesh has no policy")
	}
	var doc []byte
	if _, err := k.State.Load(stateAll, &doc); err != nil {
		return err
	}
	if signed.Sum(doc) != head.Source {
		return answer.Errorf(answer.Conflict, "another version of the policy is made here now")
	}
	out := given{Head: head.Document, Body: doc}
	k.mu.Lock()
	if k.head == head {
		out.Line = slices.Clone(k.line)
	}
	k.mu.Unlock()
	answer.JSON(w, out)
	return nil
}

// Mark puts into an answer which head this endpoint has.
func (k *Keeper) Mark(h http.Header) {
	if head := k.Head(); head != nil {
		h.Set(Field, identity.Head{Version: head.Version, Sum: head.Sum[:sumChars]}.String())
	}
}

// compares reports whether nothing is being compared with a peer; the caller calls compared. What is
// asked of the peer for it has an answer that would be compared as well.
func (k *Keeper) compares(id identity.ID) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, busy := k.comparing[id]
	k.comparing[id] = struct{}{}
	return !busy
}

func (k *Keeper) compared(id identity.ID) {
	k.mu.Lock()
	delete(k.comparing, id)
	k.mu.Unlock()
}

// Compare passes heads on between peers: an endpoint that is kept from the newest one by a hub is
// found out by the first peer that knows of it.
func (k *Keeper) Compare(s flow.Session, resp *http.Response) {
	own := identity.Head{}
	if h := k.Head(); h != nil {
		own = identity.Head{Version: h.Version, Sum: h.Sum[:sumChars]}
	}
	theirs := identity.Head{}
	if v := resp.Header.Get(Field); v != "" {
		var err error
		if theirs, err = identity.ParseHead(v); err != nil {
			return
		}
	}
	id := s.Peer().ID
	if own.Same(theirs) || !k.compares(id) {
		return
	}
	k.Work.Go(func() {
		defer k.compared(id)
		var err error
		if head := k.Head(); theirs.Version >= own.Version {
			err = k.askHead(k.Life, id)
		} else if head != nil {
			err = k.ask(k.Life, id, http.MethodPost, PathHead, head.Document, signed.MaxHead, nil)
		}
		if err != nil && k.Life.Err() == nil {
			k.PeerLog.Warn("policy "+string(id), "no policy was passed on", "peer", id, "own", own.Version, "theirs", theirs.Version, "err", err)
		}
	})
}
