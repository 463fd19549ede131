package direct

import (
	"errors"
	"log/slog"
	"net/http"
	"slices"

	"ztm/tunnel/answer"
	"ztm/tunnel/direct"
)

// Mode says with whom this device meets.
type Mode string

// The modes.
const (
	Auto Mode = "auto" // with its own user's devices, and with peers of which it accepted a flow
	LAN  Mode = "lan"  // the same, and on its own networks alone
	Off  Mode = "off"  // with nobody; to peers it looks as if it could not
)

// Narrower returns the mode of two that goes less far. "" goes as far as any.
func Narrower(a, b Mode) Mode {
	far := []Mode{Off, LAN, Auto, ""}
	return far[min(slices.Index(far, a), slices.Index(far, b))]
}

// Allows reports whether a path of a kind may be used.
func (m Mode) Allows(kind direct.Kind) bool { return m != Off && (m != LAN || kind == direct.LAN) }

// parseMode returns the mode of a word.
func parseMode(word string) (Mode, error) {
	switch m := Mode(word); m {
	case Auto, LAN, Off:
		return m, nil
	}
	return "", errors.New("it is auto, lan or off")
}

// maxWord is the size of a request that sets a mode, in bytes.
const maxWord = 64

// ServeMode shows the mode, or sets what the endpoint wants: a word in JSON.
func ServeMode(w http.ResponseWriter, r *http.Request, log *slog.Logger, mode, own func() Mode, set func(Mode) error) {
	switch r.Method {
	case http.MethodGet:
		answer.JSON(w, mode())
	case http.MethodPut:
		var word string
		if err := answer.Decode(r, maxWord, &word); err != nil {
			answer.Fail(w, log, err)
			return
		}
		m, err := parseMode(word)
		if err != nil {
			answer.Fail(w, log, answer.Errorf(answer.BadRequest, "direct: %v", err))
			return
		}
		answer.Explain(w, "%s -> %s", own(), m)
		if m != own() {
			err = set(m)
		}
		answer.Reply(w, log, mode(), err)
	default:
		answer.Fail(w, log, answer.Errorf(answer.NotFound, "an endpoint does not serve %s direct", r.Method))
	}
}
