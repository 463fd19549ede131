package answer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
)

// Code says what kind of failure an [Error] is. Where RFC 9209 section 2.3 has a name for it, that
// name is used.
type Code string

// The codes, with the HTTP status they travel with.
const (
	BadRequest  Code = "http_request_error"        // 400: the request makes no sense
	NoToken     Code = "token_missing"             // 401: whoever asks did not show who they are
	Denied      Code = "http_request_denied"       // 403: the peer may not
	NotFound    Code = "destination_not_found"     // 404: no such endpoint, app, tunnel
	Conflict    Code = "conflict"                  // 409: the name is taken
	Limit       Code = "connection_limit_reached"  // 429: a limit is reached
	Internal    Code = "proxy_internal_error"      // 500: a fault of ours
	Refused     Code = "connection_refused"        // 502: the target refused
	Unreachable Code = "destination_ip_unroutable" // 502: no route to the target
	DNS         Code = "dns_error"                 // 502: the target's name does not resolve
	Prohibited  Code = "destination_ip_prohibited" // 403: the address is excluded
	Unavailable Code = "destination_unavailable"   // 503: the endpoint is offline or the hub is down
	Timeout     Code = "connection_timeout"        // 504: the target did not answer
	Broken      Code = "connection_terminated"     // 502: the way to the peer broke before it answered
)

var statuses = map[Code]int{
	BadRequest: 400, NoToken: 401, Denied: 403, NotFound: 404, Conflict: 409, Limit: 429, Internal: 500, Refused: 502,
	Unreachable: 502, DNS: 502, Prohibited: 403, Unavailable: 503, Timeout: 504, Broken: 502,
}

// Status returns the HTTP status that goes with the code; 500 for an unknown one.
func (c Code) Status() int {
	if s, ok := statuses[c]; ok {
		return s
	}
	return http.StatusInternalServerError
}

// Error is a failure that a peer or a person gets to see. Its text is written for them.
type Error struct {
	Code    Code   `json:"error"`
	Message string `json:"message"`
}

func (e *Error) Error() string { return e.Message }

// Status returns the HTTP status that the error travels with.
func (e *Error) Status() int { return e.Code.Status() }

// Errorf makes an *Error.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// CodeOf returns the code of the *Error in err's chain, [Internal] if there is none, and "" for
// nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return Internal
}

// Public returns what a peer gets to see of err: the *Error in its chain as it is. Of any other
// error the peer learns no more than that there was one: its text may name files, addresses or
// keys. Log it.
func Public(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return Errorf(Internal, "internal error; the log says more")
}

// Lost returns what a failure on the way to a peer or to a hub is to those above. nil, an *Error in
// the chain, and a cancelled context stay as they are.
func Lost(err error) error {
	switch {
	case err == nil, errors.As(err, new(*Error)), errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, context.DeadlineExceeded):
		return Errorf(Timeout, "%v", err)
	case errors.Is(err, fs.ErrPermission):
		return Errorf(Internal, "%v", err)
	}
	return Errorf(Broken, "%v", err)
}
