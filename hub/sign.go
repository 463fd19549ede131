package hub

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"ztm/hub/limits"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// signers passes requests that need the CA key to root endpoints, and returns their answers.
type signers struct {
	woken   chan struct{} // gets a token when a root endpoint comes online; never closed
	timeout time.Duration

	mu      sync.Mutex
	waiting map[string]*signing // by request
}

// signing is a request that waits for its answer.
type signing struct {
	signer identity.ID
	answer chan tunnel.SignAnswer // capacity 1, never closed
}

func newSigners(timeout time.Duration) *signers {
	return &signers{woken: make(chan struct{}, 1), timeout: timeout, waiting: map[string]*signing{}}
}

// wake says that a root endpoint is online.
func (g *signers) wake() {
	select {
	case g.woken <- struct{}{}:
	default:
	}
}

// ask asks a root endpoint for a certificate.
func (g *signers) ask(ctx context.Context, signer *session, what tunnel.SignRequest) ([]byte, error) {
	if signer.peer.User != identity.RootUser {
		return nil, answer.Errorf(answer.Denied, "endpoint %s is not one of user %s, and cannot sign", signer.peer.ID, identity.RootUser)
	}
	id := rand.Text()
	w := &signing{signer: signer.peer.ID, answer: make(chan tunnel.SignAnswer, 1)}
	g.mu.Lock()
	g.waiting[id] = w
	g.mu.Unlock()
	defer g.take(id, w.signer)

	timer := time.NewTimer(g.timeout)
	defer timer.Stop()
	if !signer.Offer(limits.SignQueue, &tunnel.Event{Type: tunnel.EventSign, Request: id, Sign: &what}) {
		return nil, answer.Errorf(answer.Unavailable, "the endpoint that holds the CA key is busy")
	}
	select {
	case a := <-w.answer:
		if a.Refusal != nil {
			return nil, a.Refusal
		}
		return a.Certificate, nil
	case <-signer.ended:
		return nil, answer.Errorf(answer.Unavailable, "the endpoint that holds the CA key went offline")
	case <-timer.C:
		return nil, answer.Errorf(answer.Timeout, "the endpoint that holds the CA key does not answer")
	case <-ctx.Done():
		return nil, errShutdown
	}
}

// take takes a request out of the table, if it waits for that signer.
func (g *signers) take(id string, signer identity.ID) *signing {
	g.mu.Lock()
	defer g.mu.Unlock()
	w := g.waiting[id]
	if w == nil || w.signer != signer {
		return nil
	}
	delete(g.waiting, id)
	return w
}

// postSign is POST /v1/sign/REQUEST: the answer of the endpoint that was asked, and of no other.
func (s *server) postSign(w http.ResponseWriter, r *http.Request, p *peer, arg string) error {
	if p.User != identity.RootUser {
		return answer.Errorf(answer.Denied, "only endpoints of user %s sign", identity.RootUser)
	}
	b, err := s.readBody(s.bodies, w, r, p, limits.MaxAnswer)
	if err != nil {
		return err
	}
	var a tunnel.SignAnswer
	if err := json.Unmarshal(b, &a); err != nil {
		return answer.Errorf(answer.BadRequest, "answer: %v", err)
	}
	if (a.Refusal == nil) == (len(a.Certificate) == 0) {
		return answer.Errorf(answer.BadRequest, "answer: want either a certificate or a refusal")
	}
	waiting := s.signers.take(arg, p.ID)
	if waiting == nil {
		return answer.Errorf(answer.NotFound, "no request waits for this answer")
	}
	waiting.answer <- a
	w.WriteHeader(http.StatusNoContent)
	return nil
}
