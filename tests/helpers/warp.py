"""A tilt series of Warp, to be completed with ``format``."""

WARP = """<?xml version="1.0" encoding="utf-8"?>
<TiltSeries DataDirectory="frames" AreAnglesInverted="False" LevelAngleX="{level_x}" LevelAngleY="{level_y}">
  <Angles>40.01
0.02
-38.5
-60</Angles>
  <Dose>105.6
0
3
6</Dose>
  <UseTilt>{use}</UseTilt>
  <AxisAngle>-93.5
-93.5
-93.5
-93.5</AxisAngle>
  <MoviePath>../frames/a b.tif
../frames/b.tif
../frames/c.tif
../frames/d.tif</MoviePath>
  <CTF>
    <Param Name="PixelSize" Value="1.5" /><Param Name="Voltage" Value="200" /><Param Name="Cs" Value="2.0" />
    <Param Name="Amplitude" Value="0.07" /><Param Name="Defocus" Value="9.9" /><Param Name="DefocusDelta" Value="0.2" />
  </CTF>
  <GridCTF Width="1" Height="1" Depth="4">
    <Node X="0" Y="0" Z="0" Value="3.0" /><Node X="0" Y="0" Z="1" Value="3.1" />
    <Node X="0" Y="0" Z="2" Value="3.2" /><Node X="0" Y="0" Z="3" Value="3.3" />
  </GridCTF>
</TiltSeries>
"""
