// Package answer is how everything here that speaks HTTP answers: with JSON, or with an [Error].
//
//	{"error": CODE, "message": TEXT}
//
// is the body of every failed request: of a hub's control session, of a sealed session, of the
// local API and of the apps below it. The same two fields travel in header blocks and in the frames
// of programs. An error that is no [Error] is a fault of ours: its text is for the log alone.
package answer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
)

// JSON answers with status 200 and v. A client that has gone needs no answer.
func JSON(w http.ResponseWriter, v any) { send(w, http.StatusOK, v) }

// Created is JSON with status 201.
func Created(w http.ResponseWriter, v any) { send(w, http.StatusCreated, v) }

// Fail answers with what [Public] says of err. An error that it hides goes to the log; that a client has gone is no
// fault.
func Fail(w http.ResponseWriter, log *slog.Logger, err error) {
	e := Public(err)
	if !errors.As(err, new(*Error)) {
		level := slog.LevelError
		if errors.Is(err, context.Canceled) {
			level = slog.LevelDebug
		}
		log.Log(context.Background(), level, "request failed", "err", err)
	}
	send(w, e.Status(), e)
}

// Reply answers with err if there is one, otherwise with v, and with status 204 if that is nil.
func Reply(w http.ResponseWriter, log *slog.Logger, v any, err error) {
	switch {
	case err != nil:
		Fail(w, log, err)
	case v == nil:
		w.WriteHeader(http.StatusNoContent)
	default:
		JSON(w, v)
	}
}

func send(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic("answer: internal error: " + err.Error()) // a type of ours that is not made for JSON
	}
	write(w, status, b)
}

// Document answers with status 200 and b, which is JSON, as it is: what is signed must not be
// written anew.
func Document(w http.ResponseWriter, b []byte) { write(w, http.StatusOK, b) }

func write(w http.ResponseWriter, status int, b []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(status)
	w.Write(b)
}

// Limited reads all of r, and fails where that is more than max bytes.
func Limited(r io.Reader, max int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, max+1))
	if err == nil && int64(len(b)) > max {
		return nil, tooLong(max)
	}
	return b, err
}

func tooLong(max int64) error { return fmt.Errorf("more than %d bytes", max) }

// Body reads the body of a request, of at most max bytes. Errors are [BadRequest].
func Body(r *http.Request, max int64) ([]byte, error) {
	b, err := Limited(r.Body, max)
	if err != nil {
		return nil, badBody(err)
	}
	return b, nil
}

func badBody(err error) error { return Errorf(BadRequest, "request body: %v", err) }

// Decode reads the JSON body of a request, of at most max bytes, into v. A field that v does not
// have is an error: a misspelt restriction must not become no restriction. So is anything after the
// value. Errors are [BadRequest].
func Decode(r *http.Request, max int64, v any) error {
	limited := &io.LimitedReader{R: r.Body, N: max + 1}
	d := json.NewDecoder(limited)
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if _, more := d.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("there is more after the end of the value")
		}
	}
	if limited.N <= 0 {
		err = tooLong(max)
	}
	if err != nil {
		return badBody(err)
	}
	return nil
}

// Parse reads the body of a failed answer. A body that is not one of ours gives an Error that names
// the status.
func Parse(status int, body []byte) *Error {
	e := &Error{}
	if json.Unmarshal(body, e) != nil || e.Code == "" {
		return Errorf(byStatus(status), "the answer is %d %s, without a reason", status, http.StatusText(status))
	}
	if e.Message == "" {
		e.Message = strings.ReplaceAll(string(e.Code), "_", " ")
	}
	return e
}

// byStatus gives the code that the statuses of proxies and servers between us stand for.
func byStatus(status int) Code {
	switch status {
	case http.StatusBadRequest:
		return BadRequest
	case http.StatusUnauthorized:
		return NoToken
	case http.StatusForbidden:
		return Denied
	case http.StatusNotFound:
		return NotFound
	case http.StatusTooManyRequests:
		return Limit
	case http.StatusServiceUnavailable:
		return Unavailable
	case http.StatusGatewayTimeout:
		return Timeout
	}
	return Broken
}
