package agent

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
)

// Settings is what an agent remembers of its starts, in Dir/agent.json with mode 0600: enough to dial again, and to
// make its driver again. DriverOptions may hold the plane's own credentials.
type Settings struct {
	GatewayURL    string            `json:"gatewayUrl"`
	PlaneID       string            `json:"planeId"`       // empty until it has joined
	CA            string            `json:"ca"`            // PEM of the CA that it trusts, alone
	JoinedWith    string            `json:"joinedWith"`    // SHA-256 of the last token used, in hex
	JoinedKey     string            `json:"joinedKey"`     // the public key that joined, in hex
	Driver        string            `json:"driver"`        // Config.DriverName
	DriverOptions map[string]string `json:"driverOptions"` // Config.DriverOptions
	Epoch         Epoch             `json:"epoch"`         // the highest that it has seen
}

// Epoch names one life of the log; the zero Epoch is none.
type Epoch struct {
	Number int64  `json:"number"`
	ID     string `json:"id"`
}

// LoadSettings reads what an agent saved in dir, also while it runs. The error's code is not_found where none has.
func LoadSettings(dir string) (Settings, error) {
	path := filepath.Join(dir, settingsFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return Settings{}, failf(CodeNotFound, nil, "no agent has run on %s", dir)
	}
	if err != nil {
		return Settings{}, failf(CodeInternal, err, "%s cannot be read", path)
	}
	var s Settings
	if err := json.Unmarshal(text, &s); err != nil {
		return Settings{}, failf(CodeInternal, err, "%s is damaged", path)
	}
	return s, nil
}

func (s Settings) save(dir string) error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err == nil {
		err = replaceFile(filepath.Join(dir, settingsFile), append(text, '\n'))
	}
	if err != nil {
		return failf(CodeInternal, err, "%s cannot be written", filepath.Join(dir, settingsFile))
	}
	return nil
}

// loadSettings joins what was saved with what this start says, and saves it.
func (a *Agent) loadSettings() error {
	s, err := LoadSettings(a.cfg.Dir)
	var missing *Error
	if err != nil && (!errors.As(err, &missing) || missing.Code != CodeNotFound) {
		return err
	}
	if a.cfg.GatewayURL != "" {
		s.GatewayURL = a.cfg.GatewayURL
	}
	if s.GatewayURL == "" {
		return failf(CodeInvalid, nil, "the agent does not know its gateway: give its address")
	}
	s.Driver, s.DriverOptions = a.cfg.DriverName, maps.Clone(a.cfg.DriverOptions)
	a.settings = s
	return s.save(a.cfg.Dir)
}
