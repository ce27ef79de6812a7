"""The trained parts. Only here torch, timm, scikit-learn and joblib are imported."""
