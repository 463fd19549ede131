package transfer

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"

	"ztm/tunnel/splice"
)

// Join passes a copy on between a flow from a sender and one to a receiver, and returns the report of
// the receiver. It closes both.
func Join(sender, receiver net.Conn, o Options) (Report, error) {
	from, to := newLink(sender, fromSender, o.IdleTimeout), newLink(receiver, fromTaker, o.IdleTimeout)
	var there error
	var passing sync.WaitGroup
	passing.Go(func() {
		there = pass(from, to, nil)
		if there != nil {
			to.abort(there)
			splice.Abort(receiver)
		}
	})
	var report *Report
	back := pass(to, from, func(p []byte) error {
		report = &Report{}
		if err := json.Unmarshal(p, report); err != nil {
			return fmt.Errorf("%w: its report: %v", errProtocol, err)
		}
		return nil
	})
	if back != nil {
		from.abort(back)
		splice.Abort(sender)
	}
	passing.Wait()
	err := errors.Join(there, back)
	err = errors.Join(from.close(err), to.close(err))
	if err != nil || report == nil {
		return Report{}, err
	}
	return *report, nil
}

// pass hands frames on up to the last one of a direction.
func pass(from, to *link, final func([]byte) error) error {
	for {
		k, p, err := from.next()
		if err != nil {
			return err
		}
		if k == kindFinal && final != nil {
			if err := final(p); err != nil {
				return err
			}
		}
		err = to.send(k, p)
		if err == nil && (from.r.Buffered() == 0 || k == kindDone || k == kindFinal) {
			err = to.flush()
		}
		if err != nil || k == kindDone || k == kindFinal {
			return err
		}
	}
}
