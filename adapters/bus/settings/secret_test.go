package settings_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/tenure-dev/tenure/adapters/bus/settings"
)

func TestSecretsAreNotShown(t *testing.T) {
	type config struct {
		URL     settings.Secret
		Secrets []settings.Secret
	}
	type holder struct {
		Config  config
		Pointer *config
		Any     any
	}
	type unexported struct {
		config  config
		pointer *config
		secret  settings.Secret
	}
	secret := settings.NewSecret(hidden)
	c := config{secret, []settings.Secret{secret, secret}}
	for name, value := range map[string]any{"a secret": secret, "its pointer": &secret, "secrets": c.Secrets, "a config": c, "its pointer's": &c,
		"a holder": holder{c, &c, secret}, "unexported fields": &unexported{c, &c, secret}, "nothing": settings.Secret{}, "a map": map[string]any{"a": c, "b": secret}} {
		shown := map[string]string{}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%t", "%100v", "%.3s", "%T", "%!"} {
			shown[verb] = fmt.Sprintf(verb, value)
		}
		shown["Sprint"], shown["Errorf"] = fmt.Sprint(value), fmt.Errorf("with %v", value).Error()
		var text, structured bytes.Buffer
		slog.New(slog.NewTextHandler(&text, nil)).Info("a", "value", value, slog.Group("group", slog.Any("value", value)))
		slog.New(slog.NewJSONHandler(&structured, nil)).Info("a", "value", value, slog.Group("group", slog.Any("value", value)))
		shown["slog"], shown["slog in JSON"] = text.String(), structured.String()
		inJSON, err := json.Marshal(value)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		inYAML, err := yaml.Marshal(value)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		shown["JSON"], shown["YAML"] = string(inJSON), string(inYAML)
		for by, text := range shown {
			if text == "" || shows(text) {
				t.Errorf("%s by %s: %q", name, by, text)
			}
		}
	}
	if !shows("a "+secret.Reveal()) || secret.String() != "…" || !secret.Equal(settings.NewSecret(hidden)) || secret.Equal(settings.Secret{}) {
		t.Error("this test sees nothing")
	}
}

// shows whether a text has the secret in it, or half of it, in some form.
func shows(text string) bool {
	half := hidden[:6]
	return strings.Contains(text, half) || strings.Contains(strings.ToLower(text), fmt.Sprintf("%x", half)) || strings.Contains(text, fmt.Sprintf("% x", half))
}
