// Package webhook sends things to a web server: compressed, signed, without following anybody
// elsewhere.
//
//	POST URL
//	content-type: TYPE, content-encoding: gzip
//	ztm-signature: t=SECONDS,v1=HEX     HMAC-SHA256 by the secret, of SECONDS "." and the body as it is sent
//
// A receiver refuses times that are long ago, so that nothing is played to it twice.
package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// ErrNever is what the answers match after which it is no use to send the same again.
var ErrNever = errors.New("refused for good")

// SignatureHeader is the header of the signature.
const SignatureHeader = "ztm-signature"

// Limits of one request.
const (
	timeout   = 20 * time.Second
	maxAnswer = 4 << 10 // bytes that are read of an answer
	maxURL    = 2048
)

// Hook is a web server to send to. Both fields are set; see [Check].
type Hook struct {
	URL    string
	Secret string
}

// Check refuses what cannot be a hook: without TLS a URL leads to this machine alone.
func (h Hook) Check() error {
	u, err := url.Parse(h.URL)
	switch {
	case err != nil || len(h.URL) > maxURL || u.Hostname() == "" || u.Fragment != "":
		return errors.New("the webhook is no URL such as https://siem.example.com/ztm")
	case u.User != nil:
		return errors.New("a webhook has a secret, and no password in its URL")
	case u.Scheme == "http" && !loopback(u.Hostname()), u.Scheme != "http" && u.Scheme != "https":
		return errors.New("a webhook begins with https://")
	case len(h.Secret) < 16:
		return errors.New("a webhook has a secret of 16 bytes or more: give one with --secret-file")
	}
	return nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Send sends a body of the given type. It may be sent again after an error that is not [ErrNever].
func (h Hook) Send(ctx context.Context, kind string, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	packed, encoding := pack(body)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL, bytes.NewReader(packed))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNever, err)
	}
	req.Header.Set("Content-Type", kind)
	req.Header.Set("Content-Encoding", encoding)
	req.Header.Set(SignatureHeader, Sign(h.Secret, time.Now().Unix(), packed))
	t := &http.Transport{DisableCompression: true, DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10}
	throughProxy(t)
	resp, err := t.RoundTrip(req) // which follows nobody elsewhere
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer))
	return judge(resp.StatusCode)
}

// judge says whether an answer is a success, or a reason to try again.
func judge(status int) error {
	switch {
	case status/100 == 2:
		return nil
	case status/100 == 5, status == http.StatusRequestTimeout, status == http.StatusTooManyRequests:
		return fmt.Errorf("the answer is %d %s", status, http.StatusText(status))
	}
	return fmt.Errorf("%w: the answer is %d %s", ErrNever, status, http.StatusText(status))
}

// Sign returns the signature of a body that is sent at a time, in Unix seconds.
func Sign(secret string, seconds int64, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(strconv.AppendInt(nil, seconds, 10))
	mac.Write([]byte("."))
	mac.Write(body)
	return "t=" + strconv.FormatInt(seconds, 10) + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}
