"""Connection Software's SOAP: the published contract, the Spyne service, its way to HTTP."""

from receiptd.soap import compat as compat  # before any module here imports Spyne
