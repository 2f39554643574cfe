"""Units by which a concentration and a flow become a mass, with their factors to kg and hours."""

KG_M3 = {"g/m3": 1e-3, "mg/m3": 1e-6, "ug/m3": 1e-9}
M3_H = {"m3/h": 1.0, "Nm3/h": 1.0, "m3/s": 3600.0, "Nm3/s": 3600.0, "m3/min": 60.0, "Nm3/min": 60.0}
KG_H = {"kg/h": 1.0, "g/h": 1e-3, "t/h": 1e3, "g/s": 3.6}
