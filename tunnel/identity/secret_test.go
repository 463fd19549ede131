package identity

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// forms returns what a secret looks like when it has got out.
func forms(secret []byte) []string {
	decimal := fmt.Sprint(secret)
	return []string{
		string(secret),
		hex.EncodeToString(secret),
		strings.ToUpper(hex.EncodeToString(secret)),
		base64.StdEncoding.EncodeToString(secret)[:40],
		base64.URLEncoding.EncodeToString(secret)[:40],
		decimal[1 : len(decimal)-1],
		strings.Trim(fmt.Sprintf("%#v", secret), "[]byte{}"),
	}
}

func TestFormattingAndLoggingShowNoSecret(t *testing.T) {
	j := newJoining(t)
	p := Permit{Mesh: j.ca.Mesh(), CA: string(j.ca.CertificatePEM()), Bootstraps: []string{"hub:1"},
		CAKey: string(j.ca.KeyPEM()), Token: &j.token}
	keyLine := strings.Split(p.CAKey, "\n")[1]
	secrets := append(forms(j.ca.private().Seed()), forms(j.token.t.secret())...)
	secrets = append(secrets, p.CAKey, keyLine)

	type holder struct {
		ca     *CA
		token  Token
		CA     *CA
		Permit *Permit
	}
	values := map[string]any{
		"CA": j.ca, "CA copied": *j.ca, "token": j.token, "pointer to token": &j.token,
		"permit": p, "pointer to permit": &p,
		"what holds them":        holder{j.ca, j.token, j.ca, &p},
		"pointer to the same":    &holder{j.ca, j.token, j.ca, &p},
		"list of them":           []any{j.ca, j.token, p},
		"map of tokens":          map[string]Token{"x": j.token},
		"error with a token":     fmt.Errorf("token %v of %+v, permit %v", j.token, j.ca, p),
		"no CA":                  (*CA)(nil),
		"no token":               Token{},
		"certificate of a CA":    j.ca.Certificate(),
		"proof, which goes out":  j.prove(t),
		"trust, which goes out":  j.trust,
		"verifier of this trust": j.verifier(),
	}
	for name, v := range values {
		t.Run(name, func(t *testing.T) {
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t"} {
				refuseSecrets(t, verb, fmt.Sprintf(verb, v), secrets)
			}
			var log bytes.Buffer
			slog.New(slog.NewTextHandler(&log, nil)).Info("x", "v", v)
			slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "v", v)
			switch v.(type) {
			case []any, map[string]Token, holder, *holder:
				return // JSON of what has tokens inside is meant to have them: it is how permits are written
			}
			refuseSecrets(t, "log", log.String(), secrets)
		})
	}
	for name, v := range map[string]any{"CA": j.ca, "CA copied": *j.ca} {
		refuseSecrets(t, name+" as JSON", string(must(json.Marshal(v))(t)), secrets)
	}
}

func refuseSecrets(t *testing.T, how, text string, secrets []string) {
	t.Helper()
	for i, s := range secrets {
		if strings.Contains(text, s) {
			t.Errorf("%s shows secret %d: %q", how, i, text)
		}
	}
}

func TestSecretsSayWhatTheyAre(t *testing.T) {
	j := newJoining(t)
	p := Permit{Mesh: j.ca.Mesh(), Bootstraps: []string{"hub:1", "hub:2"}}
	for want, v := range map[string]any{
		"CA of mesh " + string(j.ca.Mesh()):                           j.ca,
		"join token for user bob until 2100-01-03T03:04:05Z":          j.token,
		"permit for mesh " + string(j.ca.Mesh()) + " at hub:1, hub:2": &p,
	} {
		if got := fmt.Sprintf("%+v", v); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
