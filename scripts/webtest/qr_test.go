package webtest

import (
	"bytes"
	"image/png"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/qrcode"
	"github.com/makiuchi-d/gozxing/qrcode/decoder"
)

// TestACodeOfEachSizeIsRead makes codes of all 40 sizes, each as full as it can be and with one byte
// more than the last holds.
func TestACodeOfEachSizeIsRead(t *testing.T) {
	_, b := one(t)
	type made struct {
		Text string
		Rows []string
	}
	all := eval[[]made](b, `(async () => {
		const { code } = await import('/pages/qr.js')
		const most = [17, 32, 53, 78, 106, 134, 154, 192, 230, 271, 321, 367, 425, 458, 520, 586, 644, 718, 792, 858, 929, 1003, 1091, 1171, 1273, 1367, 1465, 1528, 1628, 1732, 1840, 1952, 2068, 2188, 2303, 2431, 2563, 2699, 2809, 2953]
		return [1, ...most, 2954].map(n => {
			const text = Array.from({ length: n }, (_, i) => String.fromCharCode(33 + (i * 7 + n) %% 90)).join('')
			return { Text: text, Rows: code(text)?.map(r => r.map(d => d ? '#' : ' ').join('')) ?? [] }
		})
	})()`)
	if last := all[len(all)-1]; len(last.Rows) != 0 {
		t.Errorf("%d bytes became a code", len(last.Text))
	}
	for i, c := range all[:len(all)-1] {
		if want := 17 + 4*max(i, 1); len(c.Rows) != want {
			t.Errorf("%d bytes: %d modules, want %d", len(c.Text), len(c.Rows), want)
			continue
		}
		m, err := gozxing.NewSquareBitMatrix(len(c.Rows))
		if err != nil {
			t.Fatal(err)
		}
		for y, row := range c.Rows {
			for x := range row {
				if row[x] == '#' {
					m.Set(x, y)
				}
			}
		}
		if got, err := decoder.NewDecoder().Decode(m, nil); err != nil || got.GetText() != c.Text {
			t.Errorf("%d bytes: %v", len(c.Text), err)
		}
	}
}

// scan reads the one QR code on the screen, as a camera does.
func (b *tab) scan() string {
	b.t.Helper()
	shot, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		b.t.Fatal(err)
	}
	picture, err := png.Decode(bytes.NewReader(shot))
	if err != nil {
		b.t.Fatal(err)
	}
	bits, err := gozxing.NewBinaryBitmapFromImage(picture)
	if err != nil {
		b.t.Fatal(err)
	}
	got, err := qrcode.NewQRCodeReader().Decode(bits, map[gozxing.DecodeHintType]any{gozxing.DecodeHintType_TRY_HARDER: true})
	if err != nil {
		b.shot("failed")
		b.t.Fatalf("no code is seen: %v", err)
	}
	return got.GetText()
}
