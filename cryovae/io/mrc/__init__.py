"""MRC, CCP4 and IMOD volumes: headers as they are found in the wild, read with care and written by the standard."""
