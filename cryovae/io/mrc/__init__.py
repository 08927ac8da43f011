"""MRC, CCP4 and IMOD volumes: reads nonstandard headers, writes standard ones."""
