package link

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// Limits on what another hub may send, in bytes.
const (
	maxWanted = tunnel.PageSize * 64
	maxSign   = 64 << 10
)

// Serve answers a request of another hub. from is who it is, by the certificate of the connection.
func (l *Links) Serve(w http.ResponseWriter, r *http.Request, from identity.Subject) (name string, err error) {
	if from.ID == l.own.ID {
		return "self", answer.Errorf(answer.BadRequest, "this is the same hub")
	}
	switch r.Method + " " + r.URL.Path {
	case "POST " + tunnel.PathLinkEvents:
		return "link events", l.serveEvents(w, r, from)
	case "GET " + tunnel.PathLinkTrust:
		return "link trust", l.serveTrust(w)
	case "POST " + tunnel.PathLinkTrust:
		return "link set trust", l.takeTrust(w, r, from)
	case "POST " + tunnel.PathLinkEndpoints:
		return "link endpoints", l.serveRecords(w, r)
	}
	if signer, ok := strings.CutPrefix(r.URL.Path, tunnel.PathLinkSign+"/"); ok && r.Method == http.MethodPost {
		return "link sign", l.serveSign(w, r, from, signer)
	}
	return "unknown", answer.Errorf(answer.NotFound, "there is no such request")
}

// serveEvents tells another hub what happens here, until it goes.
func (l *Links) serveEvents(w http.ResponseWriter, r *http.Request, from identity.Subject) error {
	doc, err := answer.Body(r, identity.MaxHubRecord)
	if err != nil {
		return err
	}
	rec, _, err := l.c.Verifier.HubRecord(doc)
	if err != nil || rec.ID != from.ID {
		return answer.Errorf(answer.BadRequest, "this is not the record of hub %s: %v", from.ID, err)
	}
	if _, err := l.learn(doc); err != nil {
		return err
	}
	f, end := l.subscribe(from.ID)
	defer end()
	l.wakeFor(from.ID)
	w.Header().Set("Content-Type", "application/x-ndjson")
	rc := http.NewResponseController(w)
	rc.SetWriteDeadline(time.Now().Add(writeTimeout))
	t := &teller{l: l, rc: rc, enc: json.NewEncoder(w)}
	t.snapshot()
	tick := time.NewTicker(l.c.Ping)
	defer tick.Stop()
	for t.err == nil {
		select {
		case <-f.some:
			t.news(f.take())
		case <-tick.C:
			t.tell(tunnel.LinkEvent{Type: tunnel.LinkPing, N: len(l.c.Host.Attached()), Links: l.Linked()})
			t.flush()
		case <-f.ended:
			return nil
		case <-r.Context().Done():
			return nil
		}
	}
	return nil
}

// wakeFor makes this hub dial another at once, which has just shown that it lives.
func (l *Links) wakeFor(id identity.ID) {
	l.mu.Lock()
	if h := l.hubs[id]; h != nil && h.session == nil {
		select {
		case h.wake <- struct{}{}:
		default:
		}
	}
	l.mu.Unlock()
}

func (l *Links) serveTrust(w http.ResponseWriter) error {
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(askTimeout))
	if doc := l.c.Verifier.Trust().Document(); doc != nil {
		answer.Document(w, doc)
	} else {
		w.WriteHeader(http.StatusNoContent)
	}
	return nil
}

func (l *Links) takeTrust(w http.ResponseWriter, r *http.Request, from identity.Subject) error {
	http.NewResponseController(w).SetReadDeadline(time.Now().Add(askTimeout))
	doc, err := answer.Body(r, tunnel.MaxTrust)
	if err != nil {
		return err
	}
	if err := l.c.Asked.SetTrust(doc, from); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// serveRecords answers with the records of endpoints, of those that are there.
func (l *Links) serveRecords(w http.ResponseWriter, r *http.Request) error {
	http.NewResponseController(w).SetReadDeadline(time.Now().Add(askTimeout))
	var wanted tunnel.Wanted
	if err := decode(r, maxWanted, &wanted); err != nil {
		return err
	}
	if len(wanted.IDs) > tunnel.PageSize || l.c.Book == nil {
		return answer.Errorf(answer.BadRequest, "records of %d endpoints are asked for, at most %d are possible", len(wanted.IDs), tunnel.PageSize)
	}
	out := tunnel.Records{Records: [][]byte{}}
	for _, id := range wanted.IDs {
		if doc, _ := l.c.Book.Record(id); doc != nil {
			out.Records = append(out.Records, doc)
		}
	}
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(askTimeout))
	answer.JSON(w, out)
	return nil
}

// serveSign asks an endpoint that is attached here, and no other hub.
func (l *Links) serveSign(w http.ResponseWriter, r *http.Request, from identity.Subject, arg string) error {
	signer, err := identity.ParseID(arg)
	if err != nil {
		return answer.Errorf(answer.BadRequest, "%v", err)
	}
	http.NewResponseController(w).SetReadDeadline(time.Now().Add(askTimeout))
	var what tunnel.SignRequest
	if err := decode(r, maxSign, &what); err != nil {
		return err
	}
	if what.Hub != (what.Join == nil) || what.Hub && !l.isOf(from, what.Of) {
		return answer.Errorf(answer.BadRequest, "a hub passes on requests to join, and those of another hub for itself")
	}
	der, err := l.c.Asked.Sign(r.Context(), signer, what)
	if err != nil {
		return err
	}
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(askTimeout))
	answer.JSON(w, tunnel.SignAnswer{Certificate: der})
	return nil
}

// isOf reports whether a certificate is of a hub.
func (l *Links) isOf(hub identity.Subject, der []byte) bool {
	s, err := l.c.Verifier.Inspect(der, identity.RoleHub)
	return err == nil && s.ID == hub.ID
}

// decode reads the JSON body of a request. Members that are not known are skipped: the other hub
// may be newer.
func decode(r *http.Request, max int64, v any) error {
	b, err := answer.Body(r, max)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return answer.Errorf(answer.BadRequest, "request body: %v", err)
	}
	return nil
}

// Sign asks an endpoint that is attached to another hub for a certificate. It reports false if no
// hub says that it has the endpoint.
func (l *Links) Sign(ctx context.Context, signer identity.ID, what tunnel.SignRequest) (der []byte, asked bool, err error) {
	for _, id := range l.Where(signer) {
		l.mu.Lock()
		var s *tunnel.Session
		if h := l.hubs[id]; h != nil {
			s = h.session
		}
		l.mu.Unlock()
		if s == nil {
			continue
		}
		var a tunnel.SignAnswer
		asked = true
		err = s.Ask(ctx, "POST", tunnel.PathLinkSign+"/"+string(signer), what, &a)
		if err == nil || !next(err) {
			return a.Certificate, true, err
		}
	}
	return nil, asked, err
}

// next reports whether another hub may know better: this one does not have the endpoint, or does
// not answer. A token is spent once, so an answer that was lost is not asked for again elsewhere
// but by the device.
func next(err error) bool {
	var no *answer.Error
	return errors.As(err, &no) && no.Code == answer.NotFound || errors.Is(err, io.ErrUnexpectedEOF)
}
