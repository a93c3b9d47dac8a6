package protocol

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const testPlane = "pln_abcdefghijklmnopqrstuvwxyz"

func testToken() Token {
	token := Token{PlaneID: testPlane}
	for i := range 32 {
		token.Secret[i], token.Fingerprint[i] = byte(i), byte(255-i)
	}
	return token
}

// The text is a wire form: it never changes.
const testText = "tjt1." + testPlane +
	".AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8.__79_Pv6-fj39vX08_Lx8O_u7ezr6uno5-bl5OPi4eA"

func TestATokenIsReadAsItIsWritten(t *testing.T) {
	token := testToken()
	if diff := cmp.Diff(testText, token.Text()); diff != "" {
		t.Errorf("text (-want +got):\n%s", diff)
	}
	got, err := ParseToken("  " + testText + "\n")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(token, got); diff != "" {
		t.Errorf("token (-want +got):\n%s", diff)
	}
}

func TestATokenIsRefused(t *testing.T) {
	parts := strings.Split(testText, ".")
	for name, text := range map[string]string{
		"empty":                        "",
		"of another version":           "tjt2" + testText[4:],
		"cut short":                    strings.Join(parts[:3], "."),
		"cut within the fingerprint":   testText[:len(testText)-1],
		"with a part too many":         testText + ".x",
		"of something else's id":       strings.Replace(testText, "pln_", "ten_", 1),
		"of an id in upper case":       strings.Replace(testText, testPlane, strings.ToUpper(testPlane), 1),
		"of a short id":                strings.Replace(testText, testPlane, "pln_abc", 1),
		"with a short secret":          strings.Join([]string{parts[0], parts[1], "AAEC", parts[3]}, "."),
		"with padding":                 testText + "=",
		"with stray bits at the end":   testText[:len(testText)-1] + "B",
		"with the standard alphabet":   strings.Replace(testText, "__79", "//79", 1),
		"with a newline in its middle": strings.Replace(testText, "__79", "__\n79", 1),
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := ParseToken(text); !errors.Is(err, ErrToken) {
				t.Errorf("ParseToken gave %v, %v", got, err)
			}
		})
	}
}

func TestATokenIsNotPrintedByAccident(t *testing.T) {
	token := testToken()
	var logged strings.Builder
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("joining", "token", token)
	for _, text := range []string{logged.String(), fmt.Sprint(token), fmt.Sprintf("%v", &token), token.String()} {
		if strings.Contains(text, "AAEC") || strings.Contains(text, "[0 1 2") || strings.Contains(text, "0,1,2") {
			t.Errorf("it prints its secret: %s", text)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(testText)
	f.Add("tjt1...")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := ParseToken(text)
		if err == nil && token.Text() != strings.TrimSpace(text) {
			t.Errorf("%q is read as %q", text, token.Text())
		}
	})
}

func TestHelloTextSeparatesItsParts(t *testing.T) {
	a, b := HelloText([]byte("nonce"), "pln_a"), HelloText([]byte("noncep"), "ln_a")
	if cmp.Equal(a, b) {
		t.Error("a nonce can take over the plane's first letter")
	}
}
