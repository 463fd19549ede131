package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Event is a change of a key.
type Event struct {
	KV
	Deleted bool
}

// wireError is an error in a stream. 3.4 calls its code grpc_code.
type wireError struct {
	Code     int    `json:"code"`
	GRPCCode int    `json:"grpc_code"`
	Message  string `json:"message"`
}

func (e *wireError) err() *Error {
	return &Error{Status: 200, Code: max(e.Code, e.GRPCCode), Message: e.Message}
}

// message is what a watch says.
type message struct {
	Error  *wireError `json:"error"`
	Result struct {
		Header    header `json:"header"`
		Created   bool   `json:"created"`
		Canceled  bool   `json:"canceled"`
		Reason    string `json:"cancel_reason"`
		Compacted int64  `json:"compact_revision,string"`
		Fragment  bool   `json:"fragment"` // the rest follows
		Events    []struct {
			Type string `json:"type"` // "" is a put
			KV   wireKV `json:"kv"`
		} `json:"events"`
	} `json:"result"`
}

// Watch calls f with the changes of keys with a prefix after a revision, in their order, until it
// ends, which it always does with an error. until is the revision up to which all changes were seen:
// the next watch may begin there. It is not f's to block.
//
// A watch that etcd has ended stays open in silence, as does one at a member that is cut off. The
// first is noticed here, the second by [Client.KeepAlive]: a caller that watches calls it often.
func (c *Client) Watch(ctx context.Context, prefix string, after int64, f func(events []Event, until int64)) error {
	at := c.at()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(at.left, func() { cancel(context.Cause(at.left)) })()
	err := c.watch(ctx, at, cancel, prefix, after, f)
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	var answer *Error
	if errors.As(err, &answer) && answer.Code == codeUnauthenticated {
		c.forgetToken()
	}
	c.move(at, ErrMoved)
	return err
}

func (c *Client) watch(ctx context.Context, at *seat, cancel context.CancelCauseFunc, prefix string, after int64, f func([]Event, int64)) error {
	begin := time.AfterFunc(c.config.Timeout, func() { cancel(ErrMoved) })
	defer begin.Stop()
	if err := c.logIn(ctx, at); err != nil {
		return err
	}
	body, err := json.Marshal(map[string]any{"create_request": map[string]any{
		"key": []byte(prefix), "range_end": end(prefix), "start_revision": fmt.Sprint(after + 1), "fragment": true,
	}})
	if err != nil {
		return err
	}
	resp, err := c.send(ctx, at, "/v3/watch", body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return messages(resp.Body, after, func(h header) {
		begin.Stop()
		c.recognize(h)
	}, f)
}

// messages reads what a watch says until it ends. created is called when etcd has begun.
func messages(r io.Reader, after int64, created func(header), f func([]Event, int64)) error {
	b := &bounded{r: r}
	for dec := json.NewDecoder(b); ; {
		b.left = maxAnswer
		var m message
		if err := dec.Decode(&m); err != nil {
			return fmt.Errorf("%w: %w", ErrEnded, err)
		}
		if err := m.end(after); err != nil {
			return err
		}
		if m.Result.Created {
			created(m.Result.Header)
		}
		if events, until := m.events(); len(events) > 0 {
			f(events, until)
		}
	}
}

// end returns the error that a message ends its watch with, in the order in which they must be
// looked at: etcd says "created" of a watch that it refuses, too.
func (m *message) end(after int64) error {
	switch r := &m.Result; {
	case m.Error != nil:
		return m.Error.err()
	case r.Compacted > 0:
		return ErrCompacted
	case r.Canceled:
		return fmt.Errorf("%w: %w", ErrEnded, &Error{Status: 200, Message: r.Reason})
	case r.Created && r.Header.Revision < after:
		return ErrRestored
	}
	return nil
}

// events returns the changes of a message. The last revision of a part may go on in the next.
func (m *message) events() (events []Event, until int64) {
	for _, e := range m.Result.Events {
		events = append(events, Event{e.KV.kv(), e.Type == "DELETE"})
		until = max(until, e.KV.Revision)
	}
	if m.Result.Fragment {
		until--
	}
	return events, until
}
