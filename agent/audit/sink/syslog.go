package sink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"ztm/agent/audit"
)

// syslog sends lines as RFC 5424 has them, with the line of JSON as the message: over UDP and unix
// sockets of datagrams one message each, over TCP with its length before it (RFC 6587 section 3.4.1).
type syslog struct {
	network, address string
	conn             net.Conn
	ended            chan struct{} // closed when the receiver has ended conn; nil: it cannot be known
}

// maxDatagram is what receivers of UDP must take, with room for the networks between (RFC 5426
// section 3.2 has 2,048 as what they should take).
const maxDatagram = 1024

// parseSyslog reads "udp://HOST:PORT", "tcp://HOST:PORT" or "unix:///dev/log".
func parseSyslog(s string) (*syslog, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.User != nil || u.RawQuery != "" || u.Fragment != "":
	case u.Scheme == "unix" && u.Host == "" && len(u.Path) > 1:
		return &syslog{network: "unixgram", address: u.Path}, nil
	case (u.Scheme == "udp" || u.Scheme == "tcp") && u.Path == "" && u.Hostname() != "" && u.Port() != "":
		return &syslog{network: u.Scheme, address: u.Host}, nil
	}
	return nil, fmt.Errorf("%q is not where syslog listens: want udp://HOST:PORT, tcp://HOST:PORT or unix:///dev/log", s)
}

func (w *syslog) gathers() time.Duration { return 100 * time.Millisecond }

func (w *syslog) write(ctx context.Context, batch []audit.Entry) error {
	select {
	case <-w.ended:
		w.close()
	default:
	}
	if w.conn == nil {
		c, err := (&net.Dialer{}).DialContext(ctx, w.network, w.address)
		if err != nil {
			return err
		}
		w.conn = c
		if w.network == "tcp" {
			w.ended = make(chan struct{})
			go listen(c, w.ended) // awaited by close
		}
	}
	conn := w.conn // the field changes when a write fails
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	for _, e := range batch {
		if _, err := conn.Write(w.frame(e)); err != nil {
			return errors.Join(err, w.close())
		}
	}
	return nil
}

// listen reads a connection until it ends. A receiver says nothing, and what is written after it has closed
// the connection, as one that is started again, is lost: the first of it without an error.
func listen(c net.Conn, ended chan<- struct{}) {
	defer close(ended)
	var buf [64]byte
	for {
		if _, err := c.Read(buf[:]); err != nil {
			return
		}
	}
}

// frame is an entry as it goes out.
func (w *syslog) frame(e audit.Entry) []byte {
	m := message(e)
	switch {
	case w.network == "tcp":
		return append(fmt.Appendf(nil, "%d ", len(m)), m...)
	case e.Line != nil: // what somebody can make long gives way
		short := *e.Line
		for _, text := range []*string{&short.Rule, &short.Detail, &short.Target, &short.Flow, &short.App} {
			if len(m) <= maxDatagram {
				break
			}
			*text = ""
			m = message(audit.Entry{Line: &short, Text: short.Encode()})
		}
	}
	return m
}

// message is an entry in the form of RFC 5424: facility 13 (audit), severity 6 (informational), or 4
// (warning) for what was refused or cut.
func message(e audit.Entry) []byte {
	priority, host, at, kind := 110, "-", "-", "checkpoint"
	if l := e.Line; l != nil {
		host, at, kind = hostname(l.Endpoint), l.Time, string(l.Event)
		if l.Result != audit.OK {
			priority = 108
		}
	}
	return append(fmt.Appendf(nil, "<%d>1 %s %s ztm - %s - ", priority, at, host, kind), e.Text...)
}

// hostname is a name of at most 255 printable ASCII characters.
func hostname(name string) string {
	s := strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '_'
		}
		return r
	}, name)
	if s == "" {
		return "-"
	}
	return s[:min(len(s), 255)]
}

func (w *syslog) close() error {
	if w.conn == nil {
		return nil
	}
	err := w.conn.Close()
	if w.ended != nil {
		<-w.ended
	}
	w.conn, w.ended = nil, nil
	return err
}
