package mesh

import "testing"

func TestAnOfferThatCountsChangesIsShownAsTheApp(t *testing.T) {
	if got := offers([]string{"cloud/155606296035329", "tunnel/tcp/8080", "tunnel/tcp/web"}); got != "cloud, tunnel/tcp/8080, tunnel/tcp/web" {
		t.Error(got)
	}
}
